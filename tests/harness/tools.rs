//! Programs that `deploy/install.sh` keeps in a folder of this repository: checkers from npm and PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Path of a file or folder in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Command for an installed program; panics with installation advice if the program is missing.
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

/// Runs a command to its end and returns its output; panics with that output if the command fails.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned() + &err
}

/// Compiles a C file of the tests into a library for `LD_PRELOAD`.
pub fn compile(source: &str, library: &Path) {
    let mut compiler = super::installed("cc", "gcc");
    compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    printed(compiler.arg(library).arg(repository(source)).arg("-ldl"));
}

/// Documents of a YAML file.
pub fn yaml(path: &Path) -> Vec<serde_json::Value> {
    let script =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let json = printed(tool("python3").args(["-c", script]).arg(path));
    serde_json::from_str(&json).unwrap()
}
