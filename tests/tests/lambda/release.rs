//! A rehearsal of a release: the alarms of `template.yaml` that take a release back, fed with the metrics that real binaries
//! write. A build that is wrong is taken back within three minutes, and a good one is not.
//!
//! A minute here is a few invocations, whose metrics are read apart. The numbers of Lambda itself, errors and durations, are
//! those that the caller sees.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan_testkit::lambda::Environment;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::yaml;
use serde_json::Value;
use tokio::process::Command;

use crate::{House, sample};

static TEMPLATE: LazyLock<Value> = LazyLock::new(|| yaml::read(include_str!("../../../template.yaml")));

/// How many minutes a release is watched.
const MINUTES: usize = 3;
/// How many invocations a version gets in a minute.
const INVOCATIONS: usize = 5;

/// The samples of one minute, by namespace, name and dimensions.
#[derive(Default)]
struct Minute(BTreeMap<(String, String, BTreeMap<String, String>), Vec<f64>>);

impl Minute {
    /// Adds a line of CloudWatch's embedded metric format.
    fn add(&mut self, line: &Value) {
        let told = &line["_aws"]["CloudWatchMetrics"][0];
        for dimensions in told["Dimensions"].as_array().unwrap() {
            let names = dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let dimensions: BTreeMap<String, String> =
                names.map(|name| (name.to_owned(), line[name].as_str().unwrap().to_owned())).collect();
            for metric in told["Metrics"].as_array().unwrap() {
                let (namespace, name) = (text(&told["Namespace"]), text(&metric["Name"]));
                let values = &line[&name];
                let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
                let samples = self.0.entry((namespace, name, dimensions.clone())).or_default();
                samples.extend(values.iter().map(|value| value.as_f64().unwrap()));
            }
        }
    }

    /// Adds a figure that Lambda itself counts for the version under test.
    fn add_of_lambda(&mut self, name: &str, value: f64) {
        self.0.entry(("AWS/Lambda".to_owned(), name.to_owned(), BTreeMap::new())).or_default().push(value);
    }

    /// A statistic of a metric as an alarm names it; `None` without samples.
    fn statistic(&self, metric: &Value, statistic: &str) -> Option<f64> {
        let namespace = bound(&metric["Namespace"]);
        // One function and version is under test.
        let of_lambda = namespace == "AWS/Lambda";
        let dimensions = metric["Dimensions"].as_array().into_iter().flatten().filter(|_| !of_lambda);
        let dimensions = dimensions.map(|one| (text(&one["Name"]), bound(&one["Value"]))).collect();
        let mut samples = self.0.get(&(namespace, text(&metric["MetricName"]), dimensions))?.clone();
        samples.sort_unstable_by(f64::total_cmp);
        match statistic {
            "Sum" => Some(samples.iter().sum()),
            other => {
                assert_eq!(other, "p99");
                // With fewer than 100 samples it is the greatest one.
                samples.last().copied()
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A value of the template, with a parameter's default in its place.
fn bound(value: &Value) -> String {
    if value["Ref"] == "AWS::StackName" {
        return "hongyan".to_owned();
    }
    // A debug build on a busy machine is not as fast as the default wants.
    if value["Ref"] == "LatencyAlarmMs" {
        return "350".to_owned();
    }
    if value["GetAtt"].to_string().contains(".Version.Version") {
        return "1".to_owned();
    }
    match value["Ref"].as_str().map_or(value, |parameter| &TEMPLATE["Parameters"][parameter]["Default"]) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An alarm's value in a minute.
fn value_of(alarm: &Value, minute: &Minute) -> Option<f64> {
    let Some(metrics) = alarm["Metrics"].as_array() else {
        let statistic = alarm["Statistic"].as_str().or_else(|| alarm["ExtendedStatistic"].as_str());
        return minute.statistic(alarm, statistic.unwrap());
    };
    let inputs: BTreeMap<&str, Option<f64>> = metrics
        .iter()
        .filter(|part| part["MetricStat"].is_object())
        .map(|part| {
            let stat = &part["MetricStat"];
            (part["Id"].as_str().unwrap(), minute.statistic(&stat["Metric"], stat["Stat"].as_str().unwrap()))
        })
        .collect();
    let expression = metrics.iter().find_map(|part| part["Expression"].as_str()).unwrap();
    let mut arithmetic = Arithmetic { rest: expression, inputs };
    let value = arithmetic.sum();
    assert_eq!(arithmetic.rest.trim(), "", "{expression}");
    value
}

/// The part of CloudWatch's metric math that the alarms use: numbers, names, `+`, `*`, `/`, parentheses, `FILL`.
struct Arithmetic<'a> {
    rest: &'a str,
    inputs: BTreeMap<&'a str, Option<f64>>,
}

impl<'a> Arithmetic<'a> {
    fn takes(&mut self, wanted: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product();
        while self.takes("+") {
            let other = self.product();
            value = value.zip(other).map(|(a, b)| a + b);
        }
        value
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.operand();
        loop {
            if self.takes("*") {
                let other = self.operand();
                value = value.zip(other).map(|(a, b)| a * b);
            } else if self.takes("/") {
                let other = self.operand();
                value = value.zip(other.filter(|divisor| *divisor != 0.0)).map(|(a, b)| a / b);
            } else {
                return value;
            }
        }
    }

    fn operand(&mut self) -> Option<f64> {
        if self.takes("FILL(") {
            let value = self.sum();
            assert!(self.takes(","), "{}", self.rest);
            let filled = self.sum();
            assert!(self.takes(")"), "{}", self.rest);
            return value.or(filled);
        }
        if self.takes("(") {
            let value = self.sum();
            assert!(self.takes(")"), "{}", self.rest);
            return value;
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, rest): (&'a str, &'a str) = rest.split_at(end);
        self.rest = rest;
        word.parse().ok().or_else(|| *self.inputs.get(word).unwrap())
    }
}

/// The function of the template with this binary, and the alarms that take a release of it back.
fn alarms_of(function: &str) -> Vec<&'static str> {
    let resources = TEMPLATE["Resources"].as_object().unwrap().values();
    let mut found = resources.filter(|one| one["Metadata"]["BuildProperties"]["Binary"] == function);
    let preference = &found.next().unwrap()["Properties"]["DeploymentPreference"];
    preference["Alarms"].as_array().unwrap().iter().map(|alarm| alarm["Ref"].as_str().unwrap()).collect()
}

/// The alarms of the function that fire at the end of these minutes.
fn firing(function: &str, minutes: &[Minute]) -> BTreeSet<&'static str> {
    let mut firing = BTreeSet::new();
    for name in alarms_of(function) {
        let alarm = &TEMPLATE["Resources"][name]["Properties"];
        assert_eq!(alarm["ComparisonOperator"], "GreaterThanThreshold", "{name}");
        assert_eq!(alarm["TreatMissingData"], "notBreaching", "{name}");
        let threshold: f64 = bound(&alarm["Threshold"]).parse().unwrap();
        let periods = usize::try_from(alarm["EvaluationPeriods"].as_u64().unwrap()).unwrap();
        let needed =
            alarm["DatapointsToAlarm"].as_u64().map_or(periods, |needed| usize::try_from(needed).unwrap());
        let latest = minutes.iter().rev().take(periods);
        let breaching =
            latest.filter(|minute| value_of(alarm, minute).is_some_and(|value| value > threshold));
        if breaching.count() >= needed {
            firing.insert(name);
        }
    }
    firing
}

/// Lets a version serve for some minutes. Returns the minute in which it is taken back, from 1 on, and by which alarms.
async fn release(
    house: &House,
    version: Environment,
    event: &Value,
) -> Option<(usize, BTreeSet<&'static str>)> {
    let function = version.function;
    let (mut minutes, mut read) = (Vec::new(), house.lambda.metrics().len());
    let mut taken_back = None;
    for number in 1..=MINUTES {
        let mut minute = Minute::default();
        for _ in 0..INVOCATIONS {
            let began = Instant::now();
            let (status, _) = house.lambda.invoke(function, event.to_string()).await;
            minute.add_of_lambda("Duration", began.elapsed().as_secs_f64() * 1_000.0);
            minute.add_of_lambda("Errors", f64::from(u8::from(status != 200)));
        }
        let lines = house.lambda.metrics();
        lines[read..].iter().for_each(|line| minute.add(line));
        read = lines.len();
        minutes.push(minute);
        let firing = firing(function, &minutes);
        if !firing.is_empty() {
            taken_back = Some((number, firing));
            break;
        }
    }
    assert!(version.stop().await.success());
    taken_back
}

/// A function in the host of every function, which panics at each invocation.
#[expect(clippy::panic, reason = "the build under test panics")]
async fn panic_at(_: &App, _: ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Infallible> {
    panic!("a build that panics")
}

/// No test: the process of the build that panics, which the rehearsal starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the rehearsal starts this program as a function"]
async fn a_build_that_panics() {
    hongyan::lambda::run("read", panic_at).await.unwrap();
}

/// This program as the function `read`.
fn panicking(house: &House) -> Environment {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--ignored", "--exact", "--nocapture", "release::a_build_that_panics"]);
    house.lambda.environment_of(program, "read", &house.settings([]), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_build_is_taken_back_within_minutes_and_a_good_one_is_not() {
    let house = House::open().await;
    let url = &house.test.settings["MYSQL_URL"];
    let password = url.split_once("//").unwrap().1.split_once('@').unwrap().0.rsplit_once(':').unwrap().1;
    let wrong = ("MYSQL_URL", url.replacen(password, "wrong", 1));
    let slow = Proxy::to(url).await;
    slow.slow_down(Duration::from_millis(200));
    let nowhere = ("REDIS_URL", "redis://127.0.0.1:1/1".to_owned());
    let (unread, records, run) = (sample("unread.json"), sample("kafka-msk.json"), sample("schedule.json"));

    let good = release(&house, house.start("read", []), &unread).await;
    let good_consumer = release(&house, house.start("kafka-consumer", []), &records).await;
    let no_password = release(&house, house.start("read", [wrong.clone()]), &unread).await;
    let consumer = release(&house, house.start("kafka-consumer", [wrong.clone()]), &records).await;
    let slow = release(&house, house.start("read", [("MYSQL_URL", slow.url())]), &unread).await;
    let panics = release(&house, panicking(&house), &unread).await;
    let failing = release(&house, house.start("scheduled-compensator", [nowhere]), &run).await;

    println!("build | minute, alarms");
    for (build, taken_back) in [
        ("good: read", &good),
        ("good: kafka-consumer", &good_consumer),
        ("wrong MySQL password: read", &no_password),
        ("wrong MySQL password: kafka-consumer", &consumer),
        ("slow: read", &slow),
        ("panics: read", &panics),
        ("each run fails: scheduled-compensator", &failing),
    ] {
        println!("{build} | {taken_back:?}");
    }
    assert_eq!((good, good_consumer), (None, None));
    let by = |alarm| Some(BTreeSet::from([alarm]));
    assert_eq!(no_password.map(|(_, alarms)| alarms), by("ReadFailures"));
    assert_eq!(consumer.map(|(_, alarms)| alarms), by("KafkaConsumerUnfinished"));
    assert_eq!(slow.map(|(_, alarms)| alarms), by("ReadLatency"));
    assert_eq!(panics.map(|(_, alarms)| alarms), by("ReadErrors"));
    assert_eq!(failing.map(|(_, alarms)| alarms), by("ScheduledCompensatorErrors"));
    house.close().await;
}

/// The event of the hook before a release of the consumer.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_before_traffic_refuses_a_consumer_that_does_not_reach_its_stores() {
    let house = House::open().await;
    let hook = &TEMPLATE["Resources"]["KafkaConsumerCheck"]["Properties"]["Environment"]["Variables"];
    let event: Value = serde_json::from_str(hook["EVENT"].as_str().unwrap()).unwrap();
    assert_eq!(event, sample("kafka-check.json"));

    let good = house.start("kafka-consumer", []);
    assert_eq!(house.lambda.invoke("kafka-consumer", event.to_string()).await.0, 200);
    assert!(good.stop().await.success());

    for away in [
        ("REDIS_URL", "redis://127.0.0.1:1/1"),
        ("MYSQL_URL", "mysql://nobody:nothing@127.0.0.1:1/nothing"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ] {
        let wrong = house.start("kafka-consumer", [(away.0, away.1.to_owned())]);
        let (status, answer) = house.lambda.invoke("kafka-consumer", event.to_string()).await;
        assert_eq!(status, 500, "{}: {answer}", away.0);
        assert!(wrong.stop().await.success());
    }
    house.close().await;
}
