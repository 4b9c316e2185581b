//! `ops/`, the alarms of `template.yaml` and their sections in `docs/operations.md`: all name the same alarms, and metrics
//! that there are. `ops/check.sh` runs the cases of the rules. No server is needed here.

#![expect(clippy::unwrap_used, reason = "a page or a rule that cannot be read ends the test")]

use std::collections::{BTreeMap, BTreeSet};

use hongyan::telemetry::metric::{self, Kind, Metric};
use hongyan_testkit::yaml;
use serde_json::Value;

const RULES: &str = include_str!("../../ops/alerts.yml");
const CASES: &str = include_str!("../../ops/alerts.test.yml");
const GRAFANA: &str = include_str!("../../ops/grafana/hongyan.json");
const TEMPLATE: &str = include_str!("../../template.yaml");
const PAGE: &str = include_str!("../../docs/operations.md");
const CHINESE_PAGE: &str = include_str!("../../docs/operations.zh.md");

/// Lambda alone refuses invocations for lack of concurrency.
const ONLY_AWS: [&str; 1] = ["Throttles"];
/// In CloudWatch a compensator that stands still is the missing data of PendingMessages.
const ONLY_PROMETHEUS: [&str; 1] = ["CompensatorStopped"];

/// The rules of `ops/alerts.yml`, by alert.
fn rules() -> BTreeMap<String, Value> {
    let rules = yaml::read(RULES)["groups"][0]["rules"].as_array().unwrap().clone();
    rules.into_iter().map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule)).collect()
}

/// The names of our metrics in a text, as Prometheus has them.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("hongyan_")).map(str::to_owned).collect()
}

/// The metric that a series of Prometheus belongs to. A histogram has only the series with these endings.
fn metric_of(series: &str) -> Option<&'static Metric> {
    metric::ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_count", "_sum"]
            .iter()
            .any(|ending| series.strip_suffix(ending) == Some(metric.name)),
        Kind::Counter | Kind::Gauge => series == metric.name,
    })
}

#[test]
fn rules_and_their_cases_name_metrics_that_there_are() {
    for series in named(RULES).iter().chain(&named(CASES)) {
        assert!(metric_of(series).is_some(), "there is no series {series}");
    }
}

#[test]
fn each_alert_fires_in_some_case_and_has_a_level_and_a_section() {
    let fires = |alert: &str| CASES.contains(&format!("alertname=\"{alert}\""));
    for (alert, rule) in rules() {
        assert!(fires(&alert), "no case of ops/alerts.test.yml lets {alert} fire");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{alert}");
        let section = format!("docs/operations.md#{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], section.as_str(), "{alert}");
    }
}

#[test]
fn the_alarms_of_aws_and_of_prometheus_have_the_same_names_levels_and_sections() {
    let template = yaml::read(TEMPLATE);
    let resources = template["Resources"].as_object().unwrap();
    // An alarm that tells a topic is one of the product; the others take a release back.
    let aws: BTreeMap<&str, &str> = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm")
        .filter(|(_, resource)| resource["Properties"]["AlarmActions"].is_array())
        .map(|(name, resource)| {
            let told = resource["Properties"]["AlarmDescription"].as_str().unwrap();
            (name.as_str(), if told.starts_with("Critical: ") { "critical" } else { "warning" })
        })
        .collect();
    let rules = rules();
    let prometheus: BTreeMap<&str, &str> = rules
        .iter()
        .map(|(alert, rule)| (alert.as_str(), rule["labels"]["severity"].as_str().unwrap()))
        .collect();

    let without = |alarms: &BTreeMap<&str, &str>, only: &[&str]| -> BTreeMap<String, String> {
        let kept = alarms.iter().filter(|(name, _)| !only.contains(name));
        kept.map(|(name, level)| ((*name).to_owned(), (*level).to_owned())).collect()
    };
    assert_eq!(without(&aws, &ONLY_AWS), without(&prometheus, &ONLY_PROMETHEUS));

    let sections: BTreeSet<&str> = PAGE
        .lines()
        .skip_while(|line| *line != "## Alarms")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let named: BTreeSet<&str> = aws.keys().chain(prometheus.keys()).copied().collect();
    assert_eq!(sections, named);
}

/// The sections of the alarms of a page: the commands of each, by alarm.
fn commands(page: &str, heading: &str) -> BTreeMap<String, String> {
    let part = page.split_once(&format!("\n## {heading}\n")).unwrap().1.split("\n## ").next().unwrap();
    let sections = part.split("\n### ").skip(1);
    sections
        .map(|section| {
            let commands = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
            (section.lines().next().unwrap().to_owned(), commands.to_owned())
        })
        .collect()
}

#[test]
fn the_chinese_page_has_the_same_alarms_and_commands() {
    assert_eq!(commands(CHINESE_PAGE, "报警"), commands(PAGE, "Alarms"));
}

/// The parts of a page that no translation changes: the commands without their remarks, the names in the first cells of tables with the
/// number of rows, the settings, and the depth of the headings.
fn fixed(page: &str) -> BTreeMap<&'static str, Vec<String>> {
    let mut fixed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut in_code = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            let command = line.split_once("  #").map_or(line, |(command, _)| command).trim_end();
            fixed.entry("commands").or_default().push(command.to_owned());
        } else if let Some(row) = line.strip_prefix("| ") {
            let first = row.split(" |").next().unwrap();
            let names: Vec<&str> = first.split('`').skip(1).step_by(2).collect();
            fixed.entry("rows").or_default().push(names.join(", "));
        } else if line.starts_with('#') {
            let depth = line.chars().take_while(|c| *c == '#').collect();
            fixed.entry("headings").or_default().push(depth);
        }
    }
    let words = page.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    let settings: BTreeSet<&str> = words.filter(|word| word.contains('_') && word.len() > 5).collect();
    fixed.insert("settings", settings.into_iter().map(str::to_owned).collect());
    fixed
}

#[test]
fn the_chinese_page_has_the_same_sections_commands_tables_and_settings() {
    let (english, chinese) = (fixed(PAGE), fixed(CHINESE_PAGE));
    assert_eq!(english.len(), 4, "{english:#?}");
    for (part, wanted) in english {
        let found = &chinese[part];
        for (wanted, found) in wanted.iter().zip(found) {
            assert_eq!(found, wanted, "{part}");
        }
        assert_eq!(found.len(), wanted.len(), "{part}");
    }
}

#[test]
fn each_section_of_an_alarm_has_a_meaning_and_three_commands() {
    let part = PAGE.split_once("\n## Alarms\n").unwrap().1.split("\n## ").next().unwrap();
    for section in part.split("\n### ").skip(1) {
        let name = section.lines().next().unwrap();
        let (meaning, rest) =
            section.split_once("```sh\n").unwrap_or_else(|| panic!("{name} has no commands"));
        assert!(meaning.lines().skip(1).any(|line| line.len() > 40), "{name} has no meaning");
        let commands = rest.split_once("```").unwrap().0.lines().filter(|line| !line.starts_with(' '));
        assert_eq!(commands.count(), 3, "{name}: the first three commands");
    }
}

#[test]
fn the_dashboards_show_every_metric_and_no_other() {
    let all: BTreeSet<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
    let grafana: Value = serde_json::from_str(GRAFANA).unwrap();
    let mut shown = BTreeSet::new();
    for panel in grafana["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            for series in named(target["expr"].as_str().unwrap()) {
                let metric = metric_of(&series);
                shown.insert(metric.unwrap_or_else(|| panic!("{}: {series}", panel["title"])).name);
            }
        }
    }
    assert_eq!(shown, all, "the panels of Grafana");

    // CloudWatch has no metric of the local runtime, and no panel of each answer: API Gateway counts those.
    let local = [
        metric::CONSUMER_LAG,
        metric::BUILD_INFO,
        metric::HTTP_SECONDS,
        metric::CONNECTIONS,
        metric::RESPONSES,
    ];
    let dashboard = &yaml::read(TEMPLATE)["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Sub"];
    let body: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    let shown = named(&body.to_string());
    let wanted = all.into_iter().filter(|name| !local.contains(name)).map(str::to_owned).collect();
    assert_eq!(shown, wanted, "the dashboard of CloudWatch");
}
