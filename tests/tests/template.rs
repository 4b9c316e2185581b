//! `template.yaml` against the code: routes, functions, variables, metrics and events agree. `deploy/check.sh`
//! checks that AWS accepts the template. No server is needed here.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use hongyan::config::Config;
use hongyan::secret;
use hongyan::telemetry::metric;
use hongyan_runtime::functions;
use hongyan_runtime::gateway::cors;
use hongyan_testkit::yaml;
use serde_json::{Value, json};

const SOURCE: &str = include_str!("../../template.yaml");
static TEMPLATE: LazyLock<Value> = LazyLock::new(|| yaml::read(SOURCE));

fn resources(kind: &str) -> BTreeMap<&'static str, &'static Value> {
    let all = TEMPLATE["Resources"].as_object().unwrap().iter();
    all.filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
        .collect()
}

/// The binary of each function in the template, by the function's logical name.
fn binaries() -> BTreeMap<&'static str, &'static str> {
    let functions = resources("AWS::Serverless::Function").into_keys();
    functions
        .map(|name| {
            let build = &TEMPLATE["Resources"][name]["Metadata"]["BuildProperties"];
            (name, build["Binary"].as_str().unwrap())
        })
        .collect()
}

/// The logical names of the functions that `value` refers to by `${Name.Alias}`.
fn invoked(value: &Value) -> Vec<String> {
    let text = value.to_string();
    let names = text.split("${").filter_map(|rest| rest.split_once(".Alias}"));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn there_is_a_function_for_each_crate_and_it_is_built_from_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    let crates: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let manifest = std::fs::read_to_string(entry.unwrap().path().join("Cargo.toml")).unwrap();
            let binary = manifest.split_once("[[bin]]").unwrap().1;
            binary.split('"').nth(1).unwrap().to_owned()
        })
        .collect();
    let binaries: BTreeSet<String> = self::binaries().into_values().map(str::to_owned).collect();
    assert_eq!(binaries, crates);
    for (name, binary) in self::binaries() {
        let build = &TEMPLATE["Resources"][name]["Metadata"];
        assert_eq!(build["BuildMethod"], "rust-cargolambda", "{name}");
        // SAM passes on only these.
        assert_eq!(build["BuildProperties"], json!({"Binary": binary}), "{name}");
    }
}

#[test]
fn the_http_api_has_the_routes_of_the_gateway_and_may_call_their_functions() {
    let paths =
        TEMPLATE["Resources"]["HttpApi"]["Properties"]["DefinitionBody"]["paths"].as_object().unwrap();
    let mut found = BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let functions = invoked(&operation["x-amazon-apigateway-integration"]["uri"]);
            assert!(!functions.is_empty(), "{method} {path}");
            for function in functions {
                let granted = resources("AWS::Lambda::Permission").into_values().any(|permission| {
                    let called = permission["FunctionName"]["Ref"] == format!("{function}.Alias");
                    let wanted = path
                        .split('/')
                        .map(|part| if part.starts_with('{') { "*" } else { part })
                        .collect::<Vec<_>>()
                        .join("/");
                    let source = permission["SourceArn"]["Sub"].as_str().unwrap();
                    called && source.ends_with(&format!("${{HttpApi}}/*/{}{wanted}", method.to_uppercase()))
                });
                assert!(granted, "{method} {path} may not call {function}");
                found.insert((method.to_uppercase(), path.clone(), binaries()[function.as_str()]));
            }
        }
    }
    let routes = functions::routes().iter();
    let wanted: BTreeSet<_> =
        routes.map(|route| (route.method.to_string(), route.path.to_owned(), route.function.name)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn pages_of_other_origins_may_do_what_they_may_at_the_local_gateway() {
    let body = &TEMPLATE["Resources"]["HttpApi"]["Properties"]["DefinitionBody"];
    let allowed = &body["x-amazon-apigateway-cors"]["Fn::If"];
    assert_eq!((&allowed[0], &allowed[2]), (&json!("HasCors"), &json!({"Ref": "AWS::NoValue"})));
    let names = |headers: &[http::HeaderName]| headers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wanted = json!({
        "allowOrigins": {"Ref": "CorsOrigins"},
        "allowMethods": cors::allowed_methods().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "allowHeaders": names(&cors::ALLOWED_HEADERS),
        "exposeHeaders": names(&cors::EXPOSED_HEADERS),
        "maxAge": cors::MAX_AGE.as_secs(),
    });
    assert_eq!(allowed[1], wanted);
    assert_eq!(TEMPLATE["Parameters"]["CorsOrigins"]["Default"], "", "no page by default");
}

#[test]
fn the_websocket_api_has_its_three_routes_and_answers_a_ping() {
    let routes = resources("AWS::ApiGatewayV2::Route");
    let keys: BTreeSet<&str> = routes.values().map(|route| route["RouteKey"].as_str().unwrap()).collect();
    assert_eq!(keys, BTreeSet::from(["$connect", "$default", "$disconnect"]));
    let integration = &resources("AWS::ApiGatewayV2::Integration")["WebSocketIntegration"];
    let called = invoked(&integration["IntegrationUri"]);
    assert_eq!(called.iter().map(|name| binaries()[name.as_str()]).collect::<Vec<_>>(), ["websocket"]);
    assert_eq!(routes["DefaultRoute"]["RouteResponseSelectionExpression"], "$default");
    assert_eq!(
        resources("AWS::ApiGatewayV2::RouteResponse")["DefaultRouteResponse"]["RouteId"]["Ref"],
        "DefaultRoute"
    );
}

/// The variables of a function, each with the parameter's default, or a stand-in if that is empty or no parameter.
fn variables(function: &Value) -> BTreeMap<String, String> {
    let all = [&TEMPLATE["Globals"]["Function"], function];
    let entries = all.into_iter().filter_map(|part| part["Environment"]["Variables"].as_object()).flatten();
    entries
        .map(|(name, value)| {
            let default =
                value["Ref"].as_str().map_or(value, |name| &TEMPLATE["Parameters"][name]["Default"]);
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            let default = match name.as_str() {
                "KAFKA_BOOTSTRAP_SERVERS" => "b-1:9098".to_owned(),
                "JWT_JWKS_URL" | "PUSH_ENDPOINT" => "https://example.com/a".to_owned(),
                _ => default,
            };
            (name.clone(), default)
        })
        .collect()
}

/// The settings that the code reads from `variables` and the secrets, and the variables that it asked for.
fn started(variables: &BTreeMap<String, String>, security: &str) -> (Config, BTreeSet<String>) {
    let secrets = BTreeMap::from([
        ("REDIS_URL", "rediss://:x@h:6379"),
        ("MYSQL_URL", "mysql://a:b@h/hongyan"),
        ("KAFKA_SASL_USERNAME", "a"),
        ("KAFKA_SASL_PASSWORD", "b"),
        ("KAFKA_SECURITY", security),
    ]);
    let asked = RefCell::new(BTreeSet::new());
    let config = Config::from_lookup(|name| {
        asked.borrow_mut().insert(name.to_owned());
        secrets.get(name).map(ToString::to_string).or_else(|| variables.get(name).cloned())
    });
    (config.unwrap(), asked.into_inner())
}

#[test]
fn every_function_starts_with_its_variables_and_has_no_others() {
    let choices = TEMPLATE["Parameters"]["KafkaSecurity"]["AllowedValues"].as_array().unwrap();
    for (name, function) in resources("AWS::Serverless::Function") {
        let variables = variables(function);
        let mut known =
            BTreeSet::from(["LOG_LEVEL", secret::SETTINGS, secret::KAFKA_SASL].map(str::to_owned));
        for security in choices {
            known.extend(started(&variables, security.as_str().unwrap()).1);
        }
        let unknown: Vec<_> = variables.keys().filter(|variable| !known.contains(*variable)).collect();
        assert!(unknown.is_empty(), "{name}: nobody reads {unknown:?}");
        for variable in
            ["REDIS_URL", "MYSQL_URL", "MYSQL_REPLICA_URL", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"]
        {
            assert!(!variables.contains_key(variable), "{name}: {variable} holds a secret");
        }
    }
}

#[test]
fn what_pushes_knows_where_and_may() {
    for (name, function) in resources("AWS::Serverless::Function") {
        let pushing = ["send", "recall", "delete", "read", "websocket", "kafka-consumer"];
        let pushes = pushing.contains(&binaries()[name]);
        let policies = function["Policies"].as_array().unwrap();
        assert_eq!(policies.contains(&json!({ "Ref": "CallConnections" })), pushes, "{name}");
        assert_eq!(variables(function).contains_key("PUSH_ENDPOINT"), pushes, "{name}");
    }
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let variables = variables(&json!({}));
    let (deployed, _) = started(&variables, "plaintext");
    let needed = |name: &str| ["KAFKA_BOOTSTRAP_SERVERS", "JWT_JWKS_URL"].contains(&name);
    let bare = variables.into_iter().filter(|(name, _)| needed(name)).collect();
    let (coded, _) = started(&bare, "plaintext");
    assert_eq!(format!("{:?}", deployed.im), format!("{:?}", coded.im));
    assert_eq!(format!("{:?}", deployed.kafka), format!("{:?}", coded.kafka));
    assert_eq!(format!("{:?}", deployed.push), format!("{:?}", coded.push));
    assert_eq!(deployed.redis.cluster, coded.redis.cluster);
    assert_eq!(TEMPLATE["Parameters"]["BatchSize"]["Default"], coded.kafka.batch_size);
}

#[test]
fn nothing_is_skipped_while_a_store_is_away() {
    let triggers = resources("AWS::Lambda::EventSourceMapping");
    assert_eq!(triggers.len(), 2);
    for (name, trigger) in triggers {
        assert_eq!(trigger["FunctionName"]["Ref"], "KafkaConsumerFunction.Alias", "{name}");
        assert_eq!(trigger["StartingPosition"], "TRIM_HORIZON", "{name}");
        assert_eq!(trigger["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{name}");
        assert_eq!(
            trigger["MetricsConfig"]["Metrics"],
            json!(["EventCount", "ErrorCount", "KafkaMetrics"]),
            "{name}"
        );
        assert_eq!(trigger["MaximumRetryAttempts"], -1, "{name}");
        assert_eq!(trigger["MaximumRecordAgeInSeconds"], -1, "{name}");
        // Lambda takes these only from provisioned pollers.
        assert!(trigger["ProvisionedPollerConfig"].is_object(), "{name}");
    }
    assert_eq!(TEMPLATE["Parameters"]["FailureDestination"]["Default"], "");
}

#[test]
fn a_failure_destination_may_be_written_to_and_keeps_the_records_by_default() {
    let parameters = &TEMPLATE["Parameters"];
    assert_eq!(parameters["FailureDestinationType"]["Default"], "kafka");
    assert_eq!(parameters["FailureDestinationType"]["AllowedValues"], json!(["kafka", "s3", "sqs", "sns"]));
    for name in ["PollMsk", "PollSelfManagedKafka"] {
        let rights = resources("AWS::IAM::ManagedPolicy")[name].to_string();
        for right in ["sqs:SendMessage", "sns:Publish", "s3:PutObject", "s3:ListBucket"] {
            assert!(rights.contains(right), "{name}: {right}");
        }
    }
    let rights = resources("AWS::IAM::ManagedPolicy")["PollMsk"].to_string();
    assert!(rights.contains("topic/${Cluster}/${FailureDestination}"));
    assert!(
        rights.contains("kafka:ListScramSecrets"),
        "with SCRAM the event source reads the cluster's secrets"
    );
}

#[test]
fn every_line_of_the_functions_log_is_an_object() {
    assert_eq!(TEMPLATE["Globals"]["Function"]["LoggingConfig"]["LogFormat"], "JSON");
}

#[test]
fn one_compensator_at_a_time_gets_the_sample_event() {
    let compensator = &TEMPLATE["Resources"]["ScheduledCompensatorFunction"]["Properties"];
    assert_eq!(compensator["ReservedConcurrentExecutions"], 1);
    let input = compensator["Events"]["EveryMinute"]["Properties"]["Input"]["Sub"].as_str().unwrap();
    let input: Value = serde_json::from_str(input).unwrap();
    let sample: Value = serde_json::from_str(include_str!("../../events/schedule.json")).unwrap();
    let names = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&input), names(&sample));
    for constant in ["version", "detail-type", "source", "detail"] {
        assert_eq!(input[constant], sample[constant], "{constant}");
    }
}

#[test]
fn alarms_watch_metrics_that_there_are() {
    let known: BTreeSet<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
    let mut watched = BTreeSet::new();
    for (name, alarm) in resources("AWS::CloudWatch::Alarm") {
        let inner =
            alarm["Metrics"].as_array().into_iter().flatten().map(|part| &part["MetricStat"]["Metric"]);
        for part in inner.chain([alarm]).filter(|part| part["Namespace"]["Ref"] == "MetricsNamespace") {
            let metric = part["MetricName"].as_str().unwrap();
            assert!(known.contains(metric), "{name}: {metric}");
            // Without the dimension the figures of another stack in the account would count too.
            let stack = json!({"Name": "stack", "Value": {"Ref": "AWS::StackName"}});
            assert!(part["Dimensions"].as_array().unwrap().contains(&stack), "{name}");
            watched.insert(metric);
        }
    }
    // The alarms of the product, and those that take a release back.
    let wanted = [
        metric::CACHE_LOOKUPS,
        metric::PERSIST_DELAY_SECONDS,
        metric::PENDING,
        metric::PENDING_OLDEST_SECONDS,
        metric::RECORDS_UNFINISHED,
        metric::BATCH_RECORDS,
        metric::RESPONSES,
        metric::COMPENSATED,
        metric::SENDS,
        metric::DEAD_LETTERS,
    ];
    assert_eq!(watched, BTreeSet::from(wanted));
}

/// The alarms of a release look at the new version alone, and at what a function that answers every fault with 503 shows.
#[test]
fn a_release_is_judged_by_the_figures_of_its_own_version() {
    let alarms = resources("AWS::CloudWatch::Alarm");
    for (name, function) in resources("AWS::Serverless::Function") {
        let preference = &function["DeploymentPreference"];
        if preference.is_null() {
            assert_eq!(name, "SendManagedFunction");
            continue;
        }
        let version = format!("{name}.Version.Version");
        let mut watched = BTreeSet::new();
        for alarm in preference["Alarms"].as_array().unwrap() {
            let alarm = alarms[alarm["Ref"].as_str().unwrap()];
            let inner =
                alarm["Metrics"].as_array().into_iter().flatten().map(|part| &part["MetricStat"]["Metric"]);
            for part in inner.chain([alarm]).filter(|part| part["MetricName"].is_string()) {
                let of_version = |one: &Value| one["Value"]["GetAtt"] == version.as_str();
                assert!(part["Dimensions"].as_array().unwrap().iter().any(of_version), "{name}: {part}");
                watched.insert(part["MetricName"].as_str().unwrap());
            }
        }
        let wanted: &[&str] = match binaries()[name] {
            "kafka-consumer" => &[metric::RECORDS_UNFINISHED, metric::BATCH_RECORDS],
            "scheduled-compensator" => &[],
            _ => &[metric::RESPONSES],
        };
        let wanted: BTreeSet<&str> = wanted.iter().copied().chain(["Errors", "Duration"]).collect();
        assert_eq!(watched, wanted, "{name}");
    }
    for (name, hook) in [
        ("KafkaConsumerFunction", "KafkaConsumerCheck"),
        ("ScheduledCompensatorFunction", "ScheduledCompensatorCheck"),
    ] {
        let function = &TEMPLATE["Resources"][name]["Properties"];
        assert_eq!(function["DeploymentPreference"]["Hooks"]["PreTraffic"]["Ref"], hook);
        let hook = &TEMPLATE["Resources"][hook]["Properties"];
        // CodeDeploy's role may invoke no other name.
        assert!(hook["FunctionName"]["Sub"].as_str().unwrap().starts_with("CodeDeployHook_"));
        assert_eq!(hook["Environment"]["Variables"]["VERSION"]["Ref"], format!("{name}.Version"));
    }
    let event = &TEMPLATE["Resources"]["ScheduledCompensatorCheck"]["Properties"]["Environment"]["Variables"]
        ["EVENT"];
    let event: Value = serde_json::from_str(event.as_str().unwrap()).unwrap();
    assert_eq!(event["detail-type"], "Scheduled Event");
}

#[test]
fn every_parameter_is_used_and_shown_in_a_group() {
    let groups = &TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"];
    let shown: BTreeSet<&str> = groups
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["Parameters"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    let parameters: BTreeSet<&str> =
        TEMPLATE["Parameters"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(shown, parameters);
    let body = TEMPLATE["Resources"].to_string()
        + &TEMPLATE["Globals"].to_string()
        + &TEMPLATE["Conditions"].to_string();
    for name in parameters {
        let used =
            body.contains(&format!("{{\"Ref\":\"{name}\"}}")) || body.contains(&format!("${{{name}}}"));
        assert!(used, "{name}");
    }
}
