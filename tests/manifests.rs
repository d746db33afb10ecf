//! The Kubernetes manifests: every overlay renders, satisfies the schemas, and contains no mistake that only a cluster would
//! reveal.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::program::Desk;
use crate::harness::tools::{printed, repository, tool, yaml};

const OVERLAYS: [&str; 5] = [
    "k8s",
    "k8s/overlays/local",
    "k8s/overlays/sentinel",
    "k8s/overlays/production",
    "k8s/overlays/all-components",
];
/// Kinds that are no part of Kubernetes itself, and so have no schema here.
const FOREIGN: [&str; 4] = ["Gateway", "HTTPRoute", "PodMonitor", "PrometheusRule"];
/// Newest Kubernetes version to which these manifests were applied.
const VERSION: &str = "1.36";

/// Resources to which an overlay renders.
struct Rendered {
    name: &'static str,
    resources: Vec<Value>,
}

fn render(name: &'static str, folder: &Path) -> Rendered {
    let mut command = if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_ok()
    {
        Command::new("kubectl")
    } else {
        tool("kustomize")
    };
    let kustomize = if command.get_program() == "kubectl" {
        "kustomize"
    } else {
        "build"
    };
    let file = folder.join(name.replace('/', "-"));
    std::fs::write(&file, printed(command.arg(kustomize).arg(repository(name)))).unwrap();
    let resources = yaml(&file);
    Rendered { name, resources }
}

fn all() -> Vec<Rendered> {
    let folder = tempfile::tempdir().unwrap();
    OVERLAYS.map(|name| render(name, folder.path())).into()
}

impl Rendered {
    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        let of_kind = self.resources.iter().filter(|it| it["kind"] == kind);
        of_kind.collect()
    }

    fn workloads(&self) -> Vec<&Value> {
        [self.of_kind("Deployment"), self.of_kind("StatefulSet")].concat()
    }

    fn server(&self) -> &Value {
        self.of_kind("Deployment")[0]
    }

    fn container(&self) -> &Value {
        &pod(self.server())["containers"][0]
    }

    /// Settings that the server gets from its ConfigMap, which it must reference by its hashed name.
    fn settings(&self) -> Vec<(String, String)> {
        let name = &self.container()["envFrom"][0]["configMapRef"]["name"];
        let maps = self.of_kind("ConfigMap");
        let map = maps.iter().find(|map| map["metadata"]["name"] == *name);
        let data =
            map.unwrap_or_else(|| panic!("{}: no ConfigMap {name}", self.name))["data"].as_object();
        let entry =
            |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
        data.unwrap().iter().map(entry).collect()
    }
}

fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns true if the labels contain everything that the selector requires.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn every_overlay_keeps_strictly_to_the_schemas_of_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    for name in OVERLAYS {
        let rendered = render(name, folder.path());
        let said = printed(
            tool("kubernetes-validate")
                .args(["--strict", "-k", VERSION])
                .arg(folder.path().join(name.replace('/', "-"))),
        );
        let passed = said
            .lines()
            .filter(|line| line.contains(" passed for resource "))
            .count();
        let kinds = rendered
            .resources
            .iter()
            .map(|it| it["kind"].as_str().unwrap());
        let foreign = kinds.filter(|kind| FOREIGN.contains(kind)).count();
        println!(
            "{name}: {passed} resources keep to the schemas of {VERSION}, {foreign} are not Kubernetes' own"
        );
        assert_eq!(passed + foreign, rendered.resources.len(), "{said}");
    }
}

#[test]
fn every_overlay_renders_the_same_with_the_oldest_kustomize_that_is_supported() {
    // If kubectl is missing, both renderings come from the same program and the comparison is empty.
    let folder = tempfile::tempdir().unwrap();
    for name in OVERLAYS {
        let here = render(name, folder.path());
        let file = folder.path().join("old");
        std::fs::write(
            &file,
            printed(tool("kustomize").arg("build").arg(repository(name))),
        )
        .unwrap();
        assert_eq!(here.resources, yaml(&file), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_accepts_every_setting_that_the_manifests_give_it() {
    let definition = portcullis::cli::definition();
    let known: Vec<_> = definition
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    let desk = Desk::new();
    for overlay in all() {
        let settings = overlay.settings();
        let of_container = list(&overlay.container()["env"]);
        let names = settings.iter().map(|(name, _)| name.as_str());
        let names = names.chain(of_container.iter().map(|it| it["name"].as_str().unwrap()));
        for name in names {
            assert!(
                known.contains(&name) || name.starts_with("OTEL_"),
                "{}: {name} is no setting",
                overlay.name
            );
        }
        let secret = repository("k8s/overlays/local/secrets/jwt-secret");
        let mut variables: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        variables.push(("JWT_SECRET_FILE", secret.to_str().unwrap()));
        variables.push(("REDIS_URL", "redis://127.0.0.1:1"));
        let ran = desk.check(&variables).await;
        assert_eq!(
            ran.code, 69,
            "only Redis is missing; {}: {ran:?}",
            overlay.name
        );
    }
}

#[test]
fn probes_and_ports_are_those_of_the_program() {
    let management = std::fs::read_to_string(repository("src/http/management.rs")).unwrap();
    let definition = portcullis::cli::definition();
    let default = |name: &str| {
        let mut arguments = definition.get_arguments();
        let argument = arguments
            .find(|it| it.get_env().is_some_and(|env| env == name))
            .unwrap();
        port(argument.get_default_values()[0].to_str().unwrap())
    };
    for overlay in all() {
        let (container, settings) = (overlay.container(), overlay.settings());
        for (name, setting) in [("http", "LISTEN"), ("management", "MANAGEMENT_LISTEN")] {
            let set = settings.iter().find(|(name, _)| name == setting).unwrap();
            let mut ports = list(&container["ports"]).iter();
            let there = ports.find(|it| it["name"] == name).unwrap();
            assert_eq!(there["containerPort"], port(&set.1), "{}", overlay.name);
            assert_eq!(port(&set.1), default(setting), "{}", overlay.name);
        }
        for (probe, path) in [
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ] {
            let get = &container[probe]["httpGet"];
            assert_eq!(
                (&get["path"], &get["port"]),
                (&path.into(), &"management".into())
            );
            assert!(
                management.contains(&format!(".at(\"{path}\"")),
                "no route {path}"
            );
        }
    }
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn an_end_has_the_time_that_its_parts_take() {
    for overlay in all() {
        let settings = overlay.settings();
        let seconds = |name: &str| {
            let value = &settings.iter().find(|it| it.0 == name).unwrap().1;
            value.strip_suffix('s').unwrap().parse::<u64>().unwrap()
        };
        let pre_stop = overlay.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let parts = pre_stop.unwrap() + seconds("DRAIN_DELAY") + seconds("DRAIN_TIMEOUT");
        let grace = pod(overlay.server())["terminationGracePeriodSeconds"].as_u64();
        assert!(
            grace.unwrap() > parts + 5,
            "{}: {grace:?} for {parts} s",
            overlay.name
        );
        let ready = &overlay.container()["readinessProbe"];
        let leaves =
            ready["periodSeconds"].as_u64().unwrap() * ready["failureThreshold"].as_u64().unwrap();
        let delay = pre_stop.unwrap() + seconds("DRAIN_DELAY");
        assert!(
            leaves <= delay,
            "{}: a balancer that asks notices too late",
            overlay.name
        );
    }
}

#[test]
fn selectors_find_what_they_are_meant_for() {
    for overlay in all() {
        let workloads = overlay.workloads();
        let labels: Vec<_> = workloads
            .iter()
            .map(|it| &it["spec"]["template"]["metadata"]["labels"])
            .collect();
        let one = |selector: &Value, what: &Value| {
            let found = labels
                .iter()
                .filter(|labels| selects(selector, labels))
                .count();
            assert_eq!(found, 1, "{}: {}", overlay.name, what["metadata"]["name"]);
        };
        for workload in &workloads {
            one(&workload["spec"]["selector"]["matchLabels"], workload);
            for spread in list(&pod(workload)["topologySpreadConstraints"]) {
                one(&spread["labelSelector"]["matchLabels"], workload);
            }
        }
        for service in overlay.of_kind("Service") {
            let selector = &service["spec"]["selector"];
            one(selector, service);
            let behind = workloads
                .iter()
                .find(|it| selects(selector, &it["spec"]["template"]["metadata"]["labels"]));
            for port in list(&service["spec"]["ports"]) {
                let containers = list(&pod(behind.unwrap())["containers"]).iter();
                let mut ports = containers.flat_map(|it| list(&it["ports"]));
                assert!(
                    ports.any(|it| it["name"] == port["targetPort"]),
                    "{service}"
                );
            }
        }
        for budget in overlay.of_kind("PodDisruptionBudget") {
            one(&budget["spec"]["selector"]["matchLabels"], budget);
        }
        for policy in overlay.of_kind("NetworkPolicy") {
            if policy["metadata"]["name"] != "default-deny" {
                one(&policy["spec"]["podSelector"]["matchLabels"], policy);
            }
            assert_eq!(
                policy["spec"]["policyTypes"],
                serde_json::json!(["Ingress", "Egress"])
            );
        }
        let scaler = overlay.of_kind("HorizontalPodAutoscaler")[0];
        let target = &scaler["spec"]["scaleTargetRef"]["name"];
        assert_eq!(*target, overlay.server()["metadata"]["name"]);
        let watched = &scaler["spec"]["metrics"][0]["containerResource"]["container"];
        assert_eq!(*watched, overlay.container()["name"]);
        assert_eq!(
            overlay.server()["spec"]["replicas"],
            Value::Null,
            "beside a scaler"
        );
    }
}

#[test]
fn pods_keep_to_the_restricted_standard_and_more() {
    for overlay in all() {
        let namespace = overlay.of_kind("Namespace")[0];
        assert_eq!(
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
            "restricted"
        );
        for workload in overlay.workloads() {
            let pod = pod(workload);
            assert_eq!(pod["automountServiceAccountToken"], false);
            assert_eq!(pod["enableServiceLinks"], false);
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            for container in list(&pod["containers"]) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(
                    security["capabilities"],
                    serde_json::json!({"drop": ["ALL"]})
                );
                let resources = &container["resources"];
                assert!(
                    resources["requests"]["cpu"].is_string()
                        && resources["limits"]["memory"].is_string()
                );
                assert_eq!(
                    resources["limits"]["cpu"],
                    Value::Null,
                    "throttling ages the view"
                );
                // Keys and passwords are mounted as files.
                let secret = |it: &&Value| it["valueFrom"]["secretKeyRef"].is_object();
                assert!(!list(&container["env"]).iter().any(|it| secret(&it)));
            }
        }
        assert_eq!(pod(overlay.server())["securityContext"]["runAsUser"], 65532);
        let threads = list(&overlay.container()["env"])
            .iter()
            .find(|it| it["name"] == "HASH_THREADS");
        let from = &threads.unwrap()["valueFrom"]["resourceFieldRef"]["resource"];
        assert_eq!(
            *from, "requests.cpu",
            "the pool has the bound that the scheduler has"
        );
    }
}

#[test]
fn production_runs_images_by_digest_and_brings_no_secret_along() {
    let folder = tempfile::tempdir().unwrap();
    let production = render("k8s/overlays/production", folder.path());
    for workload in production.workloads() {
        for container in list(&pod(workload)["containers"]) {
            assert!(
                container["image"].as_str().unwrap().contains("@sha256:"),
                "{container}"
            );
        }
    }
    assert!(production.of_kind("Secret").is_empty());
    let budget = production.of_kind("PodDisruptionBudget")[0];
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
}

#[test]
fn redis_in_a_pod_is_set_up_as_redis_elsewhere_and_never_evicts() {
    let elsewhere = std::fs::read_to_string(repository("deploy/redis.conf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = render("k8s/overlays/local", folder.path());
    let maps = local.of_kind("ConfigMap");
    let conf = maps
        .iter()
        .find_map(|map| map["data"]["redis.conf"].as_str())
        .unwrap();
    assert!(
        conf.starts_with(&elsewhere),
        "the copy of deploy/redis.conf is old"
    );
    let settings: Vec<_> = conf.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(
        settings.contains(&"maxmemory-policy noeviction") && settings.contains(&"appendonly yes")
    );
    let password =
        std::fs::read_to_string(repository("k8s/overlays/local/secrets/redis-auth.conf")).unwrap();
    let url = std::fs::read_to_string(repository("k8s/overlays/local/secrets/redis-url")).unwrap();
    let password = password.trim().strip_prefix("requirepass ").unwrap();
    let service = local.of_kind("Service");
    let redis = service
        .iter()
        .find(|it| it["metadata"]["name"] == "portcullis-redis")
        .unwrap();
    let port = &redis["spec"]["ports"][0]["port"];
    assert_eq!(url, format!("redis://:{password}@portcullis-redis:{port}/"));
}
