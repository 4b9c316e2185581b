//! One run of the bench, from the first server to the report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Generator, Pace, Probe, Until};
use crate::lookout::{self, Lookout};
use crate::measured::{Measured, Point};
use crate::number::micros_each;
use crate::options::{Options, Scenario};
use crate::plan::{self, Phase};
use crate::pool::Pool;
use crate::process::{Usage, Watched};
use crate::report::{Load, Outcome, Report, Used, cpu_time};
use crate::scenario::Talk;
use crate::service::Service;
use crate::users::Users;
use crate::warm_up::{WINDOW, WarmUp, is_settled};
use crate::{bare, check, servers};

/// How often a line of progress is printed, in seconds.
const PROGRESS_EVERY: u64 = 5;
/// The number of connections that write the history, and that warm up for a ladder.
const WARM_CONNECTIONS: u32 = 64;
/// The limits of `--quick`.
const QUICK_WARM_UP: u64 = 15;
const QUICK_BARE: u64 = 3;
/// In `--quick`, no step of the ladder begins later than this.
const QUICK_LADDER_ENDS: Duration = Duration::from_secs(80);
/// How long each server is measured without the service.
const BARE: u64 = 5;
/// Missing messages are looked for again until no more have arrived for this long.
const ARRIVED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Measures a service of its own, or `options.target`. If a service dies, the loads before are reported. An error
/// only if nothing could be measured.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let interrupted = async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    tokio::pin!(interrupted);
    let service = Service::find(options, &mut interrupted).await?;
    let bench = Bench { options, service: &service, began };
    let report = tokio::select! {
        report = Box::pin(bench.measure()) => report,
        () = &mut interrupted => Err(anyhow::anyhow!("interrupted; nothing is reported")),
    };
    let stopped = service.stop().await;
    let mut report = report?;
    if let Err(error) = stopped {
        report.ended.get_or_insert_with(|| format!("{error:#}"));
    }
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    service: &'a Service,
    began: Instant,
}

/// The users and connections of one scenario, and the fate of their messages.
struct Stage {
    talk: Arc<Talk>,
    accepted: Vec<i64>,
    unsure: u64,
}

impl Stage {
    fn note(&mut self, measured: &Measured) {
        self.accepted.extend(&measured.accepted);
        self.unsure += measured.unsure;
    }
}

impl Bench<'_> {
    async fn measure(&self) -> anyhow::Result<Report> {
        let Self { options, service, .. } = self;
        let aside = Arc::new(Pool::open(service.address, lookout::CONNECTIONS).await?);
        let phases = plan::phases(options);
        let mut report =
            Report::new(options, service.address.to_string(), service.servers.clone(), service.is_near());
        report.flush_settings = servers::flush_settings(&service.known).await;
        if phases.iter().any(|phase| phase.step) {
            report.ladder_p99_ms = Some(options.p99);
        }
        let mut stages = Vec::new();
        for phases in phases.chunk_by(|a, b| a.scenario == b.scenario) {
            let scenario = phases.first().map_or(options.scenario, |phase| phase.scenario);
            let mut stage = self.stage(scenario).await?;
            let loads = self.loads(phases, &mut stage, &aside, &mut report).await;
            stages.push(stage);
            loads?;
            if report.ended.is_some() {
                return Ok(report);
            }
        }
        self.check(&stages, &mut report).await;
        let time = Duration::from_secs(self.bare_seconds());
        if let (Some(stage), false) = (stages.first(), time.is_zero()) {
            match &service.known {
                Ok(config) => {
                    eprintln!("Each server by itself, {} s each", time.as_secs());
                    report.bare = bare::measure(config, &aside, &stage.talk, time).await;
                }
                Err(why) => report.notes.push(format!("the servers were not measured by themselves: {why}")),
            }
        }
        Ok(report)
    }

    fn bare_seconds(&self) -> u64 {
        match self.options.bare {
            Some(seconds) => seconds,
            None if !self.service.is_own() => 0,
            None if self.options.quick => QUICK_BARE,
            None => BARE,
        }
    }

    /// The users of a scenario, with a history if they read.
    async fn stage(&self, scenario: Scenario) -> anyhow::Result<Stage> {
        let users = Users::new(&self.service.auth, self.options.users, self.options.zipf)?;
        let talk = Arc::new(Talk::new(scenario, users, self.service.address.to_string()));
        let mut stage = Stage { talk, accepted: Vec::new(), unsure: 0 };
        if scenario.reads() {
            eprintln!("Writing {} messages to be read", stage.talk.history_size());
            let generator = Generator::open(self.service.address, WARM_CONNECTIONS)?;
            let until = Until::HistoryIsWritten;
            let (_, written) = load(generator, &stage.talk, Pace::Closed, until, None, progress).await?;
            if let Some(reason) = &written.ended {
                anyhow::bail!("the history cannot be written: {reason}");
            }
            if let Some(((_, error), _)) = written.errors.first_key_value() {
                anyhow::bail!("the history cannot be written: {error}");
            }
            stage.note(&written);
        }
        Ok(stage)
    }

    /// Runs the loads of one scenario. A warm-up precedes the first load of all.
    async fn loads(
        &self,
        phases: &[Phase],
        stage: &mut Stage,
        aside: &Arc<Pool>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut too_much = false;
        for phase in phases {
            if phase.step && (too_much || self.is_late_for(phase)) {
                continue;
            }
            if report.warm_up.is_none() {
                report.warm_up = self.warm_up(phase, stage, report).await?;
                if report.ended.is_some() {
                    return Ok(());
                }
            }
            eprintln!("{}", phase.title());
            let outcome = match self.load(phase, stage, aside).await {
                Ok(outcome) => outcome,
                // The figures of the loads before must not be lost.
                Err(error) if !report.loads.is_empty() => {
                    report.ended = Some(format!("{}: {error:#}", phase.title()));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let load = Load::new(&outcome);
            too_much |= phase.step && !load.keeps(self.options.p99);
            report.loads.push(load);
            if let Some(reason) = outcome.measured.ended {
                report.ended = Some(reason);
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_late_for(&self, phase: &Phase) -> bool {
        self.options.quick && phase.step && self.began.elapsed() > QUICK_LADDER_ENDS
    }

    /// Runs load until Kafka's processor time per request has stopped falling, or the time for the warm-up is over.
    async fn warm_up(
        &self,
        phase: &Phase,
        stage: &mut Stage,
        report: &mut Report,
    ) -> anyhow::Result<Option<WarmUp>> {
        let limit = if self.options.quick { QUICK_WARM_UP } else { self.options.warm_up };
        let [.., kafka] = servers::processes(&self.service.known);
        // A ladder begins with few requests, which would take long to warm anything up.
        let pace = if phase.step { Pace::Closed } else { phase.pace };
        let mut warm_up =
            WarmUp { seconds: 0, kafka_us: Vec::new(), settled: kafka.usage().ok().map(|_| false) };
        if limit > 0 {
            eprintln!("Warming up for {limit} s at most");
        }
        let mut generator = Generator::open(self.service.address, phase.connections)?;
        while warm_up.seconds < limit && warm_up.settled != Some(true) {
            let left = limit - warm_up.seconds;
            let window = if warm_up.settled.is_some() { left.min(WINDOW) } else { left };
            let before = kafka.usage();
            let until = Until::Passed(Duration::from_secs(window));
            let measured;
            (generator, measured) = load(generator, &stage.talk, pace, until, None, progress).await?;
            stage.note(&measured);
            warm_up.seconds += window;
            if measured.ended.is_some() {
                report.ended = measured.ended;
                return Ok(Some(warm_up));
            }
            if let (Ok(before), Ok(after)) = (before, kafka.usage()) {
                let used = after.cpu.saturating_sub(before.cpu);
                warm_up.kafka_us.extend(micros_each(used, measured.answered_well()));
                warm_up.settled = Some(is_settled(&warm_up.kafka_us));
            }
        }
        Ok(Some(warm_up))
    }

    /// Runs one load, and measures its cost.
    async fn load(&self, phase: &Phase, stage: &mut Stage, aside: &Arc<Pool>) -> anyhow::Result<Outcome> {
        let lookout = Lookout::start(aside.clone(), stage.talk.clone()).await;
        let generator = Generator::open(self.service.address, phase.connections);
        let generator = match generator {
            Ok(generator) => generator,
            Err(error) => {
                let rows = lookout.rows().await;
                lookout.finish(rows, 0, false).await;
                return Err(error);
            }
        };
        let processes = self.service.processes();
        let rows_before = lookout.rows().await;
        let before: Vec<_> = processes.iter().map(Watched::usage).collect();
        let cpu_before = cpu_time()?;
        let until = Until::Passed(Duration::from_secs(phase.seconds));
        let probes = Some(lookout.probes());
        let (_, measured) = load(generator, &stage.talk, phase.pace, until, probes, progress).await?;
        let generator_cpu = cpu_time()?.saturating_sub(cpu_before);
        let generator = Watched::process("generator", std::process::id()).usage();
        let generator_memory_kb = generator.ok().map(|usage| usage.memory_kb);
        stage.note(&measured);
        let accepted = measured.accepted.len() as u64;
        let seen = lookout.finish(rows_before, accepted, measured.ended.is_none()).await;
        let used =
            processes.iter().zip(before).map(|(process, before)| (process.name, used(process, before)));
        Ok(Outcome {
            phase: phase.clone(),
            used: used.collect(),
            measured,
            seen,
            generator_cpu,
            generator_memory_kb,
        })
    }

    /// Looks for every accepted message in MySQL.
    async fn check(&self, stages: &[Stage], report: &mut Report) {
        let config = match &self.service.known {
            Ok(config) => config,
            Err(why) => {
                let note = format!("it was not checked that every accepted message is in MySQL: {why}");
                return report.notes.push(note);
            }
        };
        eprintln!("Looking for every accepted message in MySQL");
        let mut whole: Option<check::Checked> = None;
        for stage in stages {
            match check_stage(config.mysql.url.expose_secret(), stage).await {
                Ok(checked) => {
                    whole = Some(match whole {
                        Some(whole) => whole.and(checked),
                        None => checked,
                    });
                }
                Err(error) => {
                    report.ended = Some(format!("MySQL cannot be asked for the accepted messages: {error}"));
                    return;
                }
            }
        }
        report.checked = whole;
    }
}

/// Looks for the messages of a stage until all are there, or no more arrive.
async fn check_stage(url: &str, stage: &Stage) -> Result<check::Checked, sqlx::Error> {
    let ids = stage.talk.users().ids();
    let (mut fewest, mut since) = (u64::MAX, Instant::now());
    loop {
        let checked = check::every_message_is_there_once(url, &stage.accepted, ids, stage.unsure).await?;
        if checked.missing < fewest {
            (fewest, since) = (checked.missing, Instant::now());
        }
        if checked.missing == 0 || since.elapsed() > ARRIVED_WITHIN {
            return Ok(checked);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn used(process: &Watched, before: Result<Usage, String>) -> Result<Used, String> {
    let (before, after) = (before?, process.usage()?);
    Ok(Used { cpu: after.cpu.saturating_sub(before.cpu), memory_kb: after.memory_kb })
}

/// Runs one load on a thread that may block.
async fn load(
    mut generator: Generator,
    talk: &Arc<Talk>,
    pace: Pace,
    until: Until,
    probes: Option<tokio::sync::mpsc::Sender<Probe>>,
    each_second: impl FnMut(Point) + Send + 'static,
) -> anyhow::Result<(Generator, Measured)> {
    let _stop = generator.stop_on_drop();
    let talk = talk.clone();
    let run = move || {
        let measured = generator.run(&talk, pace, until, probes.as_ref(), each_second)?;
        anyhow::Ok((generator, measured))
    };
    tokio::task::spawn_blocking(run).await.context("the generator broke")?
}

/// Prints a line of progress.
fn progress(point: Point) {
    let Point { second, answered, p50, p99, .. } = point;
    if second % PROGRESS_EVERY == 0 {
        eprintln!("{second:>6} s  {answered:>7}/s  P50 {p50:.1} ms  P99 {p99:.1} ms");
    }
}
