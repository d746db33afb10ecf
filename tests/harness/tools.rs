//! Programs that `deploy/install.sh` keeps in a folder of this repository: checkers that come from npm and PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// One of those programs, or a sentence that says how to get it.
pub fn tool(name: &str) -> Command {
    let places = ["target/tools/bin", "target/tools/node_modules/.bin"];
    let found = places
        .map(|place| repository(place).join(name))
        .into_iter()
        .find(|path| path.exists());
    Command::new(
        found.unwrap_or_else(|| {
            panic!("{name} is not installed: install it by deploy/install.sh test")
        }),
    )
}

/// Runs a command to its end and returns what it printed; panics with all of that where it fails.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned() + &err
}

/// Compiles a C file of the tests into a library that is preloaded into a program.
pub fn compile(source: &str, library: &Path) {
    let mut compiler = super::installed("cc", "gcc");
    compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    printed(compiler.arg(library).arg(repository(source)).arg("-ldl"));
}

/// The documents of a YAML file.
pub fn yaml(path: &Path) -> Vec<serde_json::Value> {
    let script =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let json = printed(tool("python3").args(["-c", script]).arg(path));
    serde_json::from_str(&json).unwrap()
}
