//! What the README tells of the program is what the program says of itself: its settings, metrics, routes and error codes.
//!
//! The tables between markers are written from the program with `UPDATE_README=1 cargo nextest run readme`; without that
//! variable they are compared.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::config;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// What stands between the markers of that name.
fn section<'a>(readme: &'a str, name: &str) -> &'a str {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (_, rest) = readme
        .split_once(&begin)
        .unwrap_or_else(|| panic!("README.md lacks {begin:?}"));
    let (section, _) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("README.md lacks {end:?}"));
    section
}

/// Compares a table with the README, or writes it there.
#[expect(
    clippy::disallowed_methods,
    reason = "a test reads the environment it was started in"
)]
pub fn hold(name: &str, table: &str) {
    let readme = std::fs::read_to_string(path()).unwrap();
    let there = section(&readme, name);
    if there == table {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_README").is_some(),
        "the table of {name} in README.md is not what the program says; write it anew with: UPDATE_README=1 cargo nextest run readme"
    );
    let begin = format!("<!-- {name}: begin -->\n");
    let from = readme.find(&begin).unwrap() + begin.len();
    let mut next = readme.clone();
    next.replace_range(from..from + there.len(), table);
    std::fs::write(path(), next).unwrap();
}

/// The settings as tables, one a heading of `--help`.
fn settings() -> String {
    let definition = portcullis::cli::definition();
    let mut headings: Vec<&str> = Vec::new();
    for setting in definition.get_arguments() {
        if let Some(heading) = setting.get_help_heading()
            && !headings.contains(&heading)
        {
            headings.push(heading);
        }
    }
    let mut tables = String::new();
    for heading in headings {
        write!(
            tables,
            "\n**{heading}**\n\n| setting | default | meaning |\n|---|---|---|\n"
        )
        .unwrap();
        for setting in definition
            .get_arguments()
            .filter(|setting| setting.get_help_heading() == Some(heading))
        {
            let variable = setting.get_env().unwrap().to_str().unwrap();
            let option = variable.to_lowercase().replace('_', "-");
            assert_eq!(setting.get_long(), Some(option.as_str()), "{variable}");
            let default: Vec<_> = setting
                .get_default_values()
                .iter()
                .map(|value| format!("`{}`", value.to_str().unwrap()))
                .collect();
            let help = setting.get_help().unwrap().to_string();
            // A secret's text begins with its name: the option takes a file only.
            let secret = variable.strip_suffix("_FILE");
            let text = secret.and_then(|name| help.strip_prefix(&format!("{name}: ")));
            let name = match (secret, text) {
                (Some(name), Some(_)) => format!("`{name}`, `{variable}`"),
                _ => format!("`{variable}`"),
            };
            let text = text.unwrap_or(&help).replace('|', "\\|");
            writeln!(tables, "| {name} | {} | {text} |", default.join(" ")).unwrap();
        }
    }
    tables.push('\n');
    tables
}

fn metrics() -> String {
    let mut table = "| metric | tells |\n|---|---|\n".to_owned();
    for (name, text) in portcullis::telemetry::NAMES {
        writeln!(table, "| `{name}` | {text} |").unwrap();
    }
    table
}

/// The first column of a table: what stands in backquotes there.
fn first_column(table: &str) -> BTreeSet<String> {
    let cells = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once(" | ")?.0));
    let names = cells.flat_map(|cell| cell.split('`').step_by(2));
    names.map(str::to_owned).collect()
}

fn document() -> Value {
    // Nothing connects to it.
    let config = config("redis://127.0.0.1:6379");
    serde_json::from_str(&portcullis::app::document(config).unwrap()).unwrap()
}

// One test: two at a time would write over each other.
#[test]
fn the_readme_shows_every_setting_and_every_metric_as_the_program_does() {
    hold("settings", &settings());
    hold("metrics", &metrics());
}

#[test]
fn the_readme_lists_every_operation_and_no_other() {
    let document = document();
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            operations.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    for page in portcullis::http::docs::PAGES {
        operations.insert(format!("GET {page}"));
    }
    let readme = std::fs::read_to_string(path()).unwrap();
    assert_eq!(first_column(section(&readme, "routes")), operations);
}

#[test]
fn the_readme_lists_every_error_code_and_no_other() {
    let document = document();
    let codes = document["components"]["schemas"]["ProblemCode"]["enum"].clone();
    let codes: BTreeSet<String> = serde_json::from_value(codes).unwrap();
    let readme = std::fs::read_to_string(path()).unwrap();
    assert_eq!(first_column(section(&readme, "codes")), codes);
}
