//! The OpenAPI document is a contract: schemathesis reads it and sends requests that the document allows and requests that it
//! forbids.

use std::process::Stdio;

use portcullis::config::{ClientConfig, Secret};

use crate::harness::tools::{repository, tool};
use crate::harness::{Cluster, rounds};

const CLIENT: (&str, &str) = ("gate", "c7d1f0a92b3e48568f7a6b5c4d3e2f10");

#[tokio::test(flavor = "multi_thread")]
async fn b28_whatever_is_sent_is_answered_as_the_document_says() {
    let cluster = Cluster::with(1, |_, config| {
        config.revocation.alone = true;
        config.clients = vec![ClientConfig {
            id: CLIENT.0.to_owned(),
            secret: Secret::new(CLIENT.1.to_owned()),
        }];
    })
    .await;
    cluster.administrator("root").await;
    let base = format!("http://{}", cluster.replicas[0].addr);
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::from(tool("schemathesis"));
    command
        .arg("--config-file")
        .arg(repository("tests/contract/schemathesis.toml"))
        .args(["run", &format!("{base}/openapi.json"), "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--mode", "all", "--checks", "all"])
        .args(["--max-examples", &rounds(15, 1_000).to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", repository("tests/contract"))
        .env("SCHEMATHESIS_HOOKS", "credentials")
        .env("PORTCULLIS", &base)
        .env("CLIENT", format!("{}:{}", CLIENT.0, CLIENT.1))
        .current_dir(folder.path())
        .stdin(Stdio::null());
    // The cases are always the same, unless the user asks for many rounds: those have other cases each time.
    if rounds(0, 1) == 0 {
        command.args(["--seed", "20261127"]);
    }
    let output = command.output().await.unwrap();
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{wrong}");
    assert!(!said.contains("Authentication failed"), "{said}");
    let cases = said.split("Test cases:").nth(1);
    println!("{}", cases.unwrap_or(&said));
}
