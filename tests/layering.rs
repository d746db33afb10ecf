//! Layering: the modules that each module may use, the places where external crates are allowed, and settings in `deploy/` that
//! the program must know.
//!
//! A layer may use itself and the layers before it. Telemetry stands between `auth`, which it measures, and `http`, which
//! reports to it: no module that makes a decision depends on telemetry.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the ground up; each may use the layers before it.
const LAYERS: [&str; 9] = [
    "domain",
    "config",
    "store",
    "auth",
    "telemetry",
    "http",
    "app",
    "cli",
    "main",
];

/// Paths that only one part of the code uses: the beginning of the path, and the places where it is allowed. If there is more
/// than one place, a comment gives the reason.
const CONFINED: [(&[&str], &[&str]); 9] = [
    (&["poem", "poem_openapi"], &["http/", "app.rs"]),
    (&["redis", "deadpool_redis"], &["store/"]),
    (&["jsonwebtoken"], &["auth/"]),
    (
        &["bcrypt", "bcrypt_lanes"],
        &["auth/passwords.rs", "auth/passwords/"],
    ),
    (&["dotenvy", "std::env", "env"], &["config.rs", "config/"]),
    (&["std::time::SystemTime", "SystemTime"], &["domain/"]),
    // The runtime counts the deadlines of connections, since it has to wake up for them. Its clock stands still while the
    // machine sleeps; nothing about revocation depends on that clock.
    (
        &["std::time::Instant", "tokio::time::Instant", "Instant"],
        &["domain/", "http/server.rs", "http/server/"],
    ),
    (&["clap"], &["config.rs", "config/", "cli.rs", "cli/"]),
    (
        &[
            "opentelemetry",
            "opentelemetry_sdk",
            "opentelemetry_otlp",
            "prometheus",
        ],
        &["telemetry.rs", "telemetry/"],
    ),
];

/// Function by which a replica finds its own program, to start it once more; it does not read the environment.
const OWN_PROGRAM: &str = "std::env::current_exe";

/// Paths that pure code must not use: a runtime, and the outside world.
const IMPURE: [&str; 7] = [
    "tokio",
    "std::fs",
    "std::net::TcpStream",
    "std::io",
    "std::process",
    "std::thread",
    "std::env",
];

/// Entries of the repository's root folder.
const ENTRIES: [&str; 14] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "crates",
    "deploy",
    "docs",
    "k8s",
    "src",
    "tests",
];

/// Variables in `deploy/` that are no settings of the program.
const NOT_SETTINGS: [(&str, &[&str]); 8] = [
    (
        "of the shell and the system",
        &[
            "BASH_SOURCE",
            "HOME",
            "IFS",
            "PATH",
            "PPID",
            "PWD",
            "SECONDS",
        ],
    ),
    (
        "of the tools that are called",
        &[
            "ARGV",
            "CARGO_HOME",
            "DEBIAN_FRONTEND",
            "MAKEFLAGS",
            "MAKELEVEL",
            "MFLAGS",
        ],
    ),
    (
        "of the image's build",
        &["REVISION", "RUST", "RUSTFLAGS", "VERSION"],
    ),
    (
        "of the compose file",
        &[
            "BALANCER_BIND",
            "COLLECTOR_IMAGE",
            "GF_ANALYTICS_REPORTING_ENABLED",
            "GF_AUTH_ANONYMOUS_ENABLED",
            "GRAFANA_IMAGE",
            "GRAFANA_PORT",
            "HAPROXY_IMAGE",
            "PORTCULLIS_IMAGE",
            "PROMETHEUS_IMAGE",
            "REDIS_IMAGE",
        ],
    ),
    ("of run.sh", &["BINARY", "PROFILE", "REPLICAS"]),
    (
        "of make load and make bench",
        &["BASE", "DURATION", "ONLY", "SCRIPT"],
    ),
    (
        "of switchover.sh",
        &[
            "REDISCLI_AUTH",
            "REDISCLI_OPTIONS",
            "SENTINELCLI_AUTH",
            "SENTINELCLI_OPTIONS",
        ],
    ),
    (
        "of the start scripts of redis-sentinel",
        &[
            "AUTH", "BIND", "CONFIG", "DATA", "NAME", "PATIENCE", "PEERS", "POD",
        ],
    ),
];

#[test]
fn each_layer_uses_only_those_before_it() {
    for file in sources() {
        let layer = layer(&file);
        let rank = rank(layer).unwrap_or_else(|| panic!("{} is no layer", file.display()));
        for used in layers_used(&file) {
            assert!(
                self::rank(&used).is_some_and(|it| it <= rank),
                "{} is of {layer} and uses {used}",
                file.display()
            );
        }
    }
}

#[test]
fn what_is_confined_to_one_place_stands_nowhere_else() {
    let mut seen = BTreeSet::new();
    for file in sources() {
        let name = file.to_str().unwrap();
        let paths = paths(&code(&file));
        for (confined, places) in CONFINED {
            let found = paths
                .iter()
                .find(|path| **path != OWN_PROGRAM && confined.iter().any(|it| begins(path, it)));
            let Some(found) = found else { continue };
            seen.insert(confined[0]);
            assert!(
                places.iter().any(|place| name.starts_with(place)),
                "{name} uses {found}, which belongs to {places:?}"
            );
        }
        if name.starts_with("domain/") {
            // Test code may be impure.
            let code = code(&file);
            let used = self::paths(code.split("#[cfg(test)]").next().unwrap());
            for path in &used {
                let impure = IMPURE.iter().find(|it| begins(path, it));
                assert_eq!(impure, None, "{name} uses {path}");
            }
        }
    }
    // Every rule must match some use; a rule that matches none is misspelt.
    assert_eq!(seen.len(), CONFINED.len(), "{seen:?}");
}

#[test]
fn nothing_is_printed_by_macros_that_panic_if_the_output_is_full_or_closed() {
    for file in sources() {
        let code = code(&file);
        let shipped = code.split("#[cfg(test)]").next().unwrap();
        for printing in ["print!(", "println!(", "dbg!("] {
            assert!(
                !shipped.contains(printing),
                "{} uses {printing}..): use telemetry::say or telemetry::print",
                file.display()
            );
        }
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    for file in sources() {
        let text = fs::read_to_string(root("src").join(&file)).unwrap();
        assert!(text.starts_with("//! "), "{}", file.display());
    }
    for file in walk(&root("crates")) {
        if file.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{}", file.display());
        }
    }
    for file in walk(&root("src")) {
        if file.extension().is_some_and(|it| it == "lua") {
            let text = fs::read_to_string(&file).unwrap();
            let mut lines = text.lines().skip_while(|line| line.starts_with("#!"));
            assert!(
                lines.next().unwrap().starts_with("-- "),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut lengths = Vec::new();
    for file in sources() {
        let lines = fs::read_to_string(root("src").join(&file))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= 500, "{}: {lines} lines", file.display());
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 200, "median {median}");
}

#[test]
fn on_entering_one_sees_what_belongs_there_and_nothing_else() {
    let ignored = fs::read_to_string(root(".gitignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let entries = fs::read_dir(root("")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let belongs = name.starts_with('.')
            || ignored.contains(&name.as_str())
            || ENTRIES.contains(&name.as_str());
        assert!(belongs, "{name} does not belong at the top level");
    }
    for entry in ENTRIES {
        assert!(root(entry).exists(), "{entry} is missing");
    }
}

#[test]
fn every_setting_that_deploy_uses_is_one_of_the_program() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let settings: BTreeSet<_> = words(&help).filter(|word| is_variable(word)).collect();
    assert!(
        settings.contains("REDIS_URL") && settings.contains("LISTEN"),
        "{help}"
    );
    let others: Vec<_> = NOT_SETTINGS
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    for other in &others {
        assert!(!settings.contains(other), "{other} is a setting by now");
    }
    let (mut ours, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for file in walk(&root("deploy")).into_iter().chain(walk(&root("k8s"))) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for variable in variables(&text) {
            if settings.contains(variable.as_str()) {
                ours.insert(variable);
            } else if !others.contains(&variable.as_str()) && !variable.starts_with("OTEL_") {
                // The telemetry SDK reads the standard variables itself.
                unknown.insert(format!("{variable} in {}", file.display()));
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "--help does not know these: {unknown:#?}"
    );
    assert!(ours.len() >= 5, "{ours:?}");
    println!("settings in deploy/: {ours:?}");
}

#[test]
fn the_code_is_told_from_comments_and_texts() {
    let text =
        "use a::b; // c::d\n/* e::f */ let x = \"g::h \\\" i::j\"; r#\"k::l\"#; 'm'; n::<'a>::o";
    let code = strip(text);
    for (path, there) in [
        ("a::b", true),
        ("c::d", false),
        ("e::f", false),
        ("g::h", false),
        ("i::j", false),
        ("k::l", false),
    ] {
        assert_eq!(code.contains(path), there, "{path} in {code}");
    }
    let paths =
        paths("use tokio::{net::{TcpListener, TcpStream}, time::Instant as I};x.redis::<T>()");
    for path in [
        "tokio::net::TcpListener",
        "tokio::net::TcpStream",
        "tokio::time::Instant",
    ] {
        assert!(paths.contains(path), "{paths:?}");
    }
    assert!(!paths.iter().any(|path| begins(path, "redis")), "{paths:?}");
    assert!(begins("std::env::var", "std::env") && !begins("std::envy", "std::env"));
}

/// Returns the layer of a file: its first folder, or its own name.
fn layer(file: &Path) -> &str {
    let first = file.iter().next().unwrap().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn rank(layer: &str) -> Option<usize> {
    // The library's root names every module and uses none.
    if layer == "lib" {
        return Some(LAYERS.len());
    }
    LAYERS.iter().position(|it| *it == layer)
}

/// Returns the layers that a file names, from the root of the crate down.
fn layers_used(file: &Path) -> BTreeSet<String> {
    let depth = file.iter().count() - usize::from(file.ends_with("mod.rs"));
    let paths = paths(&code(file));
    let used = paths.iter().filter_map(|path| {
        let mut parts = path.split("::");
        let supers = parts.clone().take_while(|it| *it == "super").count();
        let rest = match parts.clone().next()? {
            "crate" | "portcullis" => parts.nth(1)?,
            // The path goes up from a module to the root, or from the tests within the module.
            "super" if supers >= depth => parts.nth(supers)?,
            _ => return None,
        };
        LAYERS.contains(&rest).then(|| rest.to_owned())
    });
    used.collect()
}

/// Returns true if a path is `start` or continues it.
fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns every path of more than one part in Rust code, with grouped imports split up.
fn paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut groups: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut previous = ' ';
    let mut rest = code;
    while let Some(next) = rest.chars().next() {
        let word: String = rest.chars().take_while(|it| is_word(*it)).collect();
        if !word.is_empty() {
            // `x.redis::<T>` is a method call. A new path begins after every other word.
            let begins_anew = !path.ends_with("::");
            if begins_anew {
                path = groups.last().cloned().unwrap_or_default();
            }
            if !(begins_anew && previous == '.') {
                path.push_str(&word);
            }
            previous = word.chars().last().unwrap();
            rest = &rest[word.len()..];
            if !rest.starts_with("::") && path.contains("::") {
                paths.insert(path.clone());
            }
            continue;
        }
        if rest.starts_with("::") {
            if path.ends_with(is_word) {
                path.push_str("::");
            }
            rest = &rest[2..];
            previous = ':';
            continue;
        }
        match next {
            '{' if path.ends_with("::") => groups.push(path.clone()),
            // An ordinary block groups no paths, but its end must match too.
            '{' => groups.push(String::new()),
            '}' => drop(groups.pop()),
            _ => {}
        }
        if !next.is_whitespace() {
            path.clear();
            previous = next;
        } else if !path.ends_with("::") {
            path.clear();
        }
        rest = &rest[next.len_utf8()..];
    }
    paths
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

/// Returns the code of a file of `src/`, without comments and string literals.
fn code(file: &Path) -> String {
    strip(&fs::read_to_string(root("src").join(file)).unwrap())
}

fn strip(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let hashes = rest[1.min(rest.len())..]
            .chars()
            .take_while(|it| *it == '#')
            .count();
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if next == 'r' && !code.ends_with(is_word) && rest[1 + hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = 2 + hashes;
            rest[begin..]
                .find(&close)
                .map_or(rest.len(), |at| begin + at + close.len())
        } else if next == '"' {
            end_of_text(rest)
        } else if let Some(mark) = QUOTED.iter().find(|mark| rest.starts_with(**mark)) {
            mark.len()
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[end..];
    }
    code
}

/// Character literals that look like the beginning of a string, or like a literal without an end.
const QUOTED: [&str; 3] = ["'\"'", r"'\''", r"'\\'"];

/// Returns the position at which a string literal ends.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, it) in text.char_indices().skip(1) {
        match it {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the Rust files of `src/`, by their paths within it.
fn sources() -> Vec<PathBuf> {
    let src = root("src");
    let files = walk(&src).into_iter();
    let files = files.filter(|file| file.extension().is_some_and(|it| it == "rs"));
    let files: Vec<_> = files
        .map(|file| file.strip_prefix(&src).unwrap().to_owned())
        .collect();
    assert!(files.len() > 30, "{files:?}");
    files
}

fn root(entry: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(entry)
}

/// Returns all files in a folder, which need not exist.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it| !is_word(it))
        .filter(|word| !word.is_empty())
}

/// Returns true if a word has the form of an environment variable.
fn is_variable(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|it| it.is_ascii_uppercase())
        && word.len() > 2
        && letters.all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_')
}

/// Returns the environment variables that a script, a Dockerfile or a manifest reads or sets.
fn variables(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        let mut at = 0;
        for word in words(line) {
            let begin = at + line[at..].find(word).unwrap();
            at = begin + word.len();
            if !is_variable(word) {
                continue;
            }
            let (before, after) = (&line[..begin], &line[at..]);
            let read = before.ends_with('$') || before.ends_with("${") || before.ends_with("${!");
            let asked = [
                "given ", "setting ", "number ", "export ", "unset ", "ENV ", "ARG ",
            ]
            .iter()
            .any(|call| before.ends_with(call));
            // `NAME=value` in a script, `NAME: value` or `name: NAME` in a manifest.
            let set = after.starts_with('=')
                || (before.trim_end_matches(['-', ' ', '"']).is_empty()
                    && (after.starts_with(": ") || after == ":"))
                || before.ends_with("name: ");
            if read || asked || set {
                found.insert(word.to_owned());
            }
        }
    }
    found
}
