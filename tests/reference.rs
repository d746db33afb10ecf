//! Reference pages in `docs/`: their settings, metrics, routes, error codes and words of the audit log are those of the
//! program.
//!
//!
//! `UPDATE_DOCS=1 cargo nextest run reference threats` writes the tables between markers from the program; without that
//! variable the tests compare them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::config;
use crate::harness::tools::repository;

/// Text of a page between the markers of that name.
pub fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (_, rest) = page
        .split_once(&begin)
        .unwrap_or_else(|| panic!("the page lacks {begin:?}"));
    let (section, _) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("the page lacks {end:?}"));
    section
}

fn read(page: &str) -> String {
    std::fs::read_to_string(repository(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Compares a table with a page, or writes it into the page.
#[expect(
    clippy::disallowed_methods,
    reason = "a test reads the environment it was started in"
)]
pub fn hold(page: &str, name: &str, table: &str) {
    let text = read(page);
    let there = section(&text, name);
    if there == table {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "the table of {name} in {page} is not that of the program; write it anew with: UPDATE_DOCS=1 cargo nextest run reference threats"
    );
    let begin = format!("<!-- {name}: begin -->\n");
    let from = text.find(&begin).unwrap() + begin.len();
    let mut next = text.clone();
    next.replace_range(from..from + there.len(), table);
    std::fs::write(repository(page), next).unwrap();
}

/// Tables of the settings, one for each heading of `--help`.
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
            // The text of a secret begins with its name, because the option takes a file only.
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

/// Words in backquotes in the first column of a table.
fn first_column(table: &str) -> BTreeSet<String> {
    let cells = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once(" | ")?.0));
    let names = cells.flat_map(|cell| cell.split('`').step_by(2));
    names.map(str::to_owned).collect()
}

fn document() -> Value {
    // No connection is made to this address.
    let config = config("redis://127.0.0.1:6379");
    serde_json::from_str(&portcullis::app::openapi_document(config).unwrap()).unwrap()
}

#[test]
fn the_page_of_settings_shows_every_setting_of_the_program() {
    hold("docs/reference/settings.md", "settings", &settings());
}

#[test]
fn the_page_of_metrics_shows_every_metric_of_the_program() {
    hold("docs/reference/metrics.md", "metrics", &metrics());
}

#[test]
fn the_page_of_routes_lists_every_operation_and_no_other() {
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
    let page = read("docs/reference/routes.md");
    assert_eq!(first_column(section(&page, "routes")), operations);
}

#[test]
fn the_page_of_errors_lists_every_code_and_no_other() {
    let document = document();
    let codes = document["components"]["schemas"]["ProblemCode"]["enum"].clone();
    let codes: BTreeSet<String> = serde_json::from_value(codes).unwrap();
    let page = read("docs/reference/errors.md");
    assert_eq!(first_column(section(&page, "codes")), codes);
}

#[test]
fn every_act_and_outcome_of_the_audit_page_is_a_word_of_the_program() {
    let page = read("docs/reference/audit.md");
    let table = section(&page, "audit");
    let words: BTreeSet<_> = table
        .lines()
        .skip(2)
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .collect();
    assert!(words.contains("login") && words.contains("throttled"));
    let mut code = String::new();
    for file in files("src", "rs") {
        code += &std::fs::read_to_string(file).unwrap();
    }
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !code.contains(&format!("\"{word}\"")))
        .collect();
    assert!(missing.is_empty(), "src/ has no such words: {missing:?}");
}

/// Files below a folder of the repository, by extension.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![repository(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
