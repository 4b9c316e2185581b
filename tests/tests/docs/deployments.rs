//! The deployments of `hongyan serve` without AWS agree with the settings, and with each other: the Dockerfile, the manifests for
//! Kubernetes, the service of `compose.yaml` and the systemd unit. `deploy/check-manifests.sh` checks that Docker, Kubernetes and
//! systemd accept them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use hongyan::config::Reader;
use hongyan_runtime::settings::ServeSettings;
use hongyan_testkit::yaml;
use serde_json::Value;

use crate::source::read;

const APP: &str = "deploy/kubernetes/app/deployment.yaml";
const MIGRATE: &str = "deploy/kubernetes/migrate/job.yaml";

/// The variables that a deployment sets, with their values.
type Variables = BTreeMap<String, String>;

fn manifest(path: &str) -> Value {
    yaml::read(&read(path))
}

fn texts(object: &Value) -> Variables {
    object
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// `NAME=value` of each line that is no comment.
fn assignments(text: &str) -> Variables {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The variables that the image sets.
fn of_image() -> Variables {
    let file = read("Dockerfile");
    let block = file.split("\nENV ").nth(1).unwrap().split("\nUSER").next().unwrap();
    assignments(&block.replace(" \\", ""))
}

fn of_kubernetes() -> Variables {
    let container = &manifest(APP)["spec"]["template"]["spec"]["containers"][0];
    let own = container["env"].as_array().unwrap();
    let own = own
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_str().unwrap().to_owned()));
    texts(&manifest("deploy/kubernetes/app/settings.yaml")["data"]).into_iter().chain(own).collect()
}

/// With the defaults of `${NAME:-default}`.
fn of_compose() -> Variables {
    let mut variables = texts(&manifest("compose.yaml")["services"]["app"]["environment"]);
    for value in variables.values_mut() {
        while let Some((before, rest)) = value.clone().split_once("${") {
            let (inside, after) = rest.split_once('}').unwrap();
            *value = format!("{before}{}{after}", inside.split_once(":-").map_or("", |(_, default)| default));
        }
    }
    variables
}

fn of_systemd() -> Variables {
    assignments(&read("deploy/systemd/hongyan.env"))
}

/// The settings that `variables` make together with the secrets, and the names that the code asked for.
fn settings(variables: &Variables) -> (ServeSettings, BTreeSet<String>) {
    let asked = RefCell::new(BTreeSet::new());
    let secrets = |name: &str| match name {
        "REDIS_URL" => Some("redis://:x@redis/1".to_owned()),
        "MYSQL_URL" => Some("mysql://a:b@mysql/hongyan".to_owned()),
        _ => None,
    };
    let mut reader = Reader::new(|name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        variables.get(name).cloned().or_else(|| secrets(name))
    });
    let settings = ServeSettings::read(&mut reader);
    let settings = reader.finish(settings).unwrap();
    (settings, asked.into_inner())
}

#[test]
fn every_deployment_sets_what_the_code_reads_and_starts_with_it() {
    for (name, variables) in
        [("Kubernetes", of_kubernetes()), ("compose.yaml", of_compose()), ("systemd", of_systemd())]
    {
        assert!(variables.len() > 3, "{name}: {variables:?}");

        let (_, known) = settings(&variables);

        let unknown: Vec<_> = variables
            .keys()
            .filter(|variable| !known.contains(*variable) && *variable != "LOG_LEVEL")
            .collect();
        assert!(unknown.is_empty(), "{name}: nobody reads {unknown:?}");
    }
    let image = of_image();
    let known = settings(&of_systemd()).1;
    assert!(image.len() == 2 && image.keys().all(|variable| known.contains(variable)), "{image:?}");
}

#[test]
fn ports_and_probes_are_those_of_the_listeners() {
    let variables = of_kubernetes();
    let (settings, _) = settings(&variables);
    let container = &manifest(APP)["spec"]["template"]["spec"]["containers"][0];

    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();

    let listen = u64::from(settings.listen.port());
    let internal = u64::from(settings.internal_listen.port());
    assert_eq!(ports, BTreeMap::from([("http", listen), ("internal", internal)]));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        // /health would take every pod out while a server is away.
        assert_eq!(container[probe]["httpGet"]["path"], "/ready", "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], "internal", "{probe}");
    }
    let service = manifest("deploy/kubernetes/app/service.yaml");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http", "the internal listener has no Service");
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    for (name, value) in of_image() {
        assert_eq!(variables[&name], value, "{name} of the image");
    }
    assert!(read("Dockerfile").contains(&format!("\nEXPOSE {listen} {internal}\n")));
    assert!(read("Dockerfile").contains(&format!("/dev/tcp/127.0.0.1/{internal} ")));
}

#[test]
fn each_supervisor_waits_longer_than_a_stop_takes() {
    let grace = manifest(APP)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > settings(&of_kubernetes()).0.stop.as_secs(), "Kubernetes: {grace} s");

    let unit = assignments(&read("deploy/systemd/hongyan.service"));
    let wait: u64 = unit["TimeoutStopSec"].parse().unwrap();
    assert!(wait > settings(&of_systemd()).0.stop.as_secs(), "systemd: {wait} s");

    let compose = manifest("compose.yaml");
    let wait = compose["services"]["app"]["stop_grace_period"].as_str().unwrap();
    let wait: u64 = wait.strip_suffix('s').unwrap().parse().unwrap();
    assert!(wait > settings(&of_compose()).0.stop.as_secs(), "compose.yaml: {wait} s");
}

#[test]
fn nothing_runs_as_root_and_each_uses_the_version_of_this_source() {
    let user = "65532";
    let cargo = read("Cargo.toml");
    let version =
        cargo.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();

    assert!(read("Dockerfile").contains(&format!("\nUSER {user}:{user}\n")));
    for path in [APP, MIGRATE] {
        let pod = &manifest(path)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{path}");
        assert_eq!(pod["securityContext"]["runAsUser"].to_string(), user, "{path}");
        let own = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (&own["readOnlyRootFilesystem"], &own["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
    }
    for folder in ["app", "migrate"] {
        let path = format!("deploy/kubernetes/{folder}/kustomization.yaml");
        assert_eq!(manifest(&path)["images"][0]["newTag"], version, "{path}");
    }
}
