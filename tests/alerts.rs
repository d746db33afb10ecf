//! Alerts and Grafana dashboard: each alert fires when it should and only then, and every metric that they query exists.

use std::collections::BTreeSet;

use portcullis::telemetry::NAMES;
use serde_json::Value;

use crate::harness::installed;
use crate::harness::tools::{printed, repository, yaml};

fn rules() -> Vec<Value> {
    let file = &yaml(&repository("deploy/prometheus/alerts.yml"))[0];
    file["groups"][0]["rules"].as_array().unwrap().clone()
}

fn dashboard() -> Value {
    let path = repository("k8s/components/monitoring/dashboard.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Expressions that the dashboard's panels query.
fn asked() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// Names of Portcullis' own metrics in an expression, without the suffixes of a histogram.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let ours =
        words.filter(|word| word.starts_with("portcullis_") || word.starts_with("http_server_"));
    let name = |word: &str| {
        let base = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix));
        base.unwrap_or(word).to_owned()
    };
    ours.map(name).collect()
}

#[test]
fn each_alert_fires_in_one_story_and_is_silent_in_another() {
    let stories = yaml(&repository("deploy/prometheus/alerts_test.yml"))[0]["tests"].clone();
    let stories: Vec<_> = stories
        .as_array()
        .unwrap()
        .iter()
        .map(|story| &story["alert_rule_test"][0])
        .collect();
    for rule in rules() {
        for silent in [true, false] {
            let story = stories.iter().any(|story| {
                let expected = story["exp_alerts"].as_array().unwrap();
                story["alertname"] == rule["alert"] && expected.is_empty() == silent
            });
            assert!(story, "{}: no story with silent {silent}", rule["alert"]);
        }
    }
    let folder = repository("deploy/prometheus");
    let said = printed(
        installed("promtool", "prometheus")
            .args(["test", "rules", "alerts_test.yml"])
            .current_dir(&folder),
    );
    assert!(said.contains("SUCCESS"), "{said}");
    printed(
        installed("promtool", "prometheus")
            .args(["check", "config", "prometheus.yml"])
            .current_dir(folder),
    );
}

#[test]
fn alerts_and_the_dashboard_name_metrics_that_there_are() {
    let known: BTreeSet<_> = NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let alerts: Vec<_> = rules()
        .iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .collect();
    let mut shown = BTreeSet::new();
    for expression in asked() {
        shown.append(&mut metrics(&expression));
    }
    for expression in &alerts {
        let unknown: Vec<_> = metrics(expression).difference(&known).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{expression}");
    }
    let unknown: Vec<_> = shown.difference(&known).collect();
    assert!(unknown.is_empty(), "the dashboard shows {unknown:?}");
    // The program sets the label by which the alerts and the dashboard select failures.
    let product = std::fs::read_to_string(repository("src/telemetry/metrics.rs")).unwrap();
    assert!(product.contains("\"http.response.status_class\"") && product.contains("\"5xx\""));
}

#[test]
fn every_expression_of_the_dashboard_is_one_that_prometheus_understands() {
    let folder = tempfile::tempdir().unwrap();
    let rules: Vec<_> = asked()
        .iter()
        .enumerate()
        .map(|(at, expr)| {
            let expr = expr.replace("$__rate_interval", "1m");
            serde_json::json!({"record": format!("panel:{at}"), "expr": expr})
        })
        .collect();
    // Every JSON text is valid YAML, so the rules file can be JSON.
    let file = folder.path().join("rules.yml");
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(&file, groups.to_string()).unwrap();
    printed(
        installed("promtool", "prometheus")
            .args(["check", "rules"])
            .arg(file),
    );
}

#[test]
fn the_rule_for_the_operator_is_the_file_for_prometheus() {
    let file = &yaml(&repository("deploy/prometheus/alerts.yml"))[0];
    let rule = &yaml(&repository("k8s/components/monitoring/alerts.yaml"))[0];
    assert_eq!(rule["spec"], *file);
}

#[test]
fn every_alert_leads_to_its_place_in_the_runbook() {
    let runbook = std::fs::read_to_string(repository("docs/operate/runbook.md")).unwrap();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        let link = format!("docs/operate/runbook.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], link);
        assert!(
            runbook.contains(&format!("\n### {name}\n")),
            "no section {name}"
        );
    }
}
