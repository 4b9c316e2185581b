//! The report as text.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::lookout::LOOK_EVERY;
use crate::report::{Failed, Latency, Load, Report};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.machine(f)?;
        for load in self.loads.iter().filter(|load| !load.step) {
            write!(f, "\n{load}")?;
        }
        self.ladder(f)?;
        self.bare(f)?;
        self.checked(f)?;
        for note in &self.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        if let Some(reason) = &self.ended {
            writeln!(f, "\nENDED before all was measured: {reason}")?;
        }
        Ok(())
    }
}

impl Report {
    fn machine(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "hongyan {} at {}", self.build, self.target)?;
        if self.servers.is_empty() {
            writeln!(f, "its servers are not known (--target)")?;
        }
        for server in &self.servers {
            writeln!(f, "{server}")?;
        }
        for setting in &self.flush_settings {
            writeln!(f, "{}: {} = {}", setting.server, setting.name, setting.value)?;
        }
        let place = if self.shared_machine {
            "shared by generator, service and servers"
        } else {
            "the generator's own"
        };
        writeln!(f, "{} cores, {place}; {} users, Zipf {}", self.cores, self.users, self.zipf)?;
        let Some(warm_up) = &self.warm_up else { return Ok(()) };
        let settled = match warm_up.settled {
            Some(true) => "Kafka's CPU a request had stopped falling",
            Some(false) => "Kafka's CPU a request was not seen to stop falling",
            None => "Kafka's CPU was not available",
        };
        let looks: Vec<String> = warm_up.kafka_us.iter().map(|micros| format!("{micros:.0}")).collect();
        writeln!(f, "warm-up {} s: {settled} ({} µs)", warm_up.seconds, looks.join(", "))
    }

    fn ladder(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(p99) = self.ladder_p99_ms else { return Ok(()) };
        if self.steps().next().is_none() {
            return writeln!(f, "\nladder    not measured: the bench ended, or its time was up");
        }
        writeln!(
            f,
            "\nladder    {:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "reached/s", "P50", "P90", "P99", "P99.9", "max"
        )?;
        for step in self.steps() {
            let Some(Latency { p50, p90, p99: at_99, p999, max, .. }) = step.all() else { continue };
            let rate = step.rate.unwrap_or_default();
            let mark = if step.keeps(p99) { "" } else { "  broken" };
            writeln!(
                f,
                "{rate:<10}{:>10.0}{p50:>10.2}{p90:>10.2}{at_99:>10.2}{p999:>10.2}{max:>10.2}{mark}",
                step.reached
            )?;
        }
        match self.highest_kept() {
            Some(rate) => writeln!(f, "highest rate with P99 <= {p99} ms and no error: {rate}/s"),
            None => writeln!(f, "no rate of the ladder had P99 <= {p99} ms and no error"),
        }
    }

    fn bare(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.bare.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nbare servers, the same data")?;
        for bare in &self.bare {
            match (bare.a_second, &bare.unavailable) {
                (Some(rate), _) => writeln!(f, "{:<10}{rate:>10.0}/s  {}", bare.server, bare.how)?,
                (None, why) => {
                    let why = why.as_deref().unwrap_or_default();
                    writeln!(f, "{:<10}not available: {why}", bare.server)?;
                }
            }
        }
        if let (Some(ratio), Some(slowest)) = (self.ratio(), self.slowest()) {
            writeln!(f, "ratio     {ratio:>10.2}    the service's best load of sends to {}", slowest.server)?;
        }
        Ok(())
    }

    fn checked(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(checked) = &self.checked else {
            return writeln!(f, "\nin MySQL  not checked");
        };
        let verdict =
            if checked.holds() { "every accepted message, once" } else { "NOT every accepted message once" };
        writeln!(
            f,
            "\nin MySQL  {verdict}: {} accepted, {} rows, {} recalled before they were rows, {} missing",
            checked.accepted, checked.rows, checked.tombstones, checked.missing
        )?;
        if checked.more_rows > 0 || checked.unsure > 0 {
            writeln!(
                f,
                "          {} more rows; {} sends had no answer or a 5xx, and may be kept",
                checked.more_rows, checked.unsure
            )?;
        }
        if !checked.missing_ids.is_empty() {
            writeln!(f, "          missing: {:?}", checked.missing_ids)?;
        }
        Ok(())
    }
}

impl Load {
    fn title(&self) -> String {
        let scenario = self.scenario.name();
        let seconds = self.seconds;
        match self.rate {
            Some(rate) => format!("{scenario}, open loop, {rate}/s for {seconds} s"),
            None => format!("{scenario}, closed loop, {} connections for {seconds} s", self.connections),
        }
    }
}

impl Display for Load {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        writeln!(
            f,
            "rate      reached {:.0}/s of {} requests; the generator kept {:.2} cores busy",
            self.reached, self.requests, self.generator_cores
        )?;
        match (self.rows_a_second, self.rows_best_second) {
            (Some(mean), Some(best)) => {
                writeln!(
                    f,
                    "consumer  {mean:.0} rows/s until all were written, {best:.0} rows/s in its best second"
                )?;
            }
            _ => writeln!(f, "consumer  not available: the service shows no metrics")?,
        }
        writeln!(
            f,
            "\nms        {:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "count", "P50", "P90", "P99", "P99.9", "max"
        )?;
        for line in &self.latencies {
            row(f, line.what, line.latency)?;
        }
        if let Some(lag) = self.persist_lag {
            row(f, "persisted", lag)?;
        }
        row(f, "late", self.generator_late_ms)?;
        row(f, "waited", self.connection_wait_ms)?;
        writeln!(
            f,
            "persisted: from a send's answer to PERSISTED in the history, looked at every {} ms; late: the generator's \
             own delay; waited: for a free connection; both are part of the above",
            LOOK_EVERY.as_millis()
        )?;
        writeln!(f, "\nprocess   {:>14}{:>12}", "CPU µs/request", "memory MB")?;
        for cost in &self.costs {
            if let Some(why) = &cost.unavailable {
                writeln!(f, "{:<10}not available: {why}", cost.process)?;
                continue;
            }
            let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.1}"));
            writeln!(f, "{:<10}{:>14}{:>12}", cost.process, number(cost.cpu_us), number(cost.memory_mb))?;
        }
        let none = self.errors.is_empty() && self.unanswered == 0;
        writeln!(f, "\nerrors    {}", if none { "none" } else { "" })?;
        for Failed { what, code, count } in &self.errors {
            writeln!(f, "  {count:>8}  {what}  {code}")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "  {:>8}  without an answer", self.unanswered)?;
        }
        for warning in &self.warnings {
            writeln!(f, "\nnote: {warning}")?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, what: &str, latency: Latency) -> fmt::Result {
    let Latency { count, p50, p90, p99, p999, max } = latency;
    writeln!(f, "{what:<10}{count:>10}{p50:>10.2}{p90:>10.2}{p99:>10.2}{p999:>10.2}{max:>10.2}")
}

/// The tables of docs/performance.md.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    // Writing into memory cannot fail.
    let _ = write_markdown(&mut out, report);
    out
}

fn write_markdown(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "Hongyan {}, {} cores, {} users, Zipf {}.\n",
        report.build, report.cores, report.users, report.zipf
    )?;
    for server in &report.servers {
        writeln!(out, "- {server}")?;
    }
    for setting in &report.flush_settings {
        writeln!(out, "- {}: `{} = {}`", setting.server, setting.name, setting.value)?;
    }
    writeln!(
        out,
        "\n| load | reached/s | P50 ms | P90 ms | P99 ms | P99.9 ms | persisted P99 ms | errors |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for load in &report.loads {
        let Some(Latency { p50, p90, p99, p999, .. }) = load.all() else { continue };
        let lag = load.persist_lag.map_or("-".to_owned(), |lag| format!("{:.0}", lag.p99));
        let errors: u64 = load.errors.iter().map(|error| error.count).sum::<u64>() + load.unanswered;
        writeln!(
            out,
            "| {} | {:.0} | {p50:.2} | {p90:.2} | {p99:.2} | {p999:.2} | {lag} | {errors} |",
            load.title(),
            load.reached
        )?;
    }
    if let (Some(p99), Some(rate)) = (report.ladder_p99_ms, report.highest_kept()) {
        writeln!(out, "\nHighest rate of the ladder with P99 ≤ {p99} ms and no error: {rate}/s.")?;
    }
    writeln!(out, "\n| load | process | CPU µs a request | memory MB |")?;
    writeln!(out, "|---|---|---|---|")?;
    for load in report.loads.iter().filter(|load| !load.step) {
        for cost in &load.costs {
            let number = |number: Option<f64>| {
                number.map_or("not available".to_owned(), |number| format!("{number:.1}"))
            };
            writeln!(
                out,
                "| {} | {} | {} | {} |",
                load.title(),
                cost.process,
                number(cost.cpu_us),
                number(cost.memory_mb)
            )?;
        }
    }
    writeln!(out, "\n| bare server | messages/s | how |\n|---|---|---|")?;
    for bare in &report.bare {
        let rate = bare.a_second.map_or("not available".to_owned(), |rate| format!("{rate:.0}"));
        let how = bare.unavailable.as_ref().unwrap_or(&bare.how);
        writeln!(out, "| {} | {rate} | {how} |", bare.server)?;
    }
    if let (Some(ratio), Some(slowest)) = (report.ratio(), report.slowest()) {
        writeln!(out, "\nThe service's best load of sends has {ratio:.2} of {}.", slowest.server)?;
    }
    if let Some(checked) = &report.checked {
        writeln!(
            out,
            "\nIn MySQL: {} accepted, {} rows, {} recalled before they were rows, {} missing, {} more rows.",
            checked.accepted, checked.rows, checked.tombstones, checked.missing, checked.more_rows
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_tables_have_each_part() {
        let text = sample().to_string();
        for part in [
            "Redis: appendfsync = everysec",
            "send, open loop, 1000/s for 2 s",
            "Kafka     not available: it runs in a container",
            "highest rate with P99 <= 10 ms and no error: 1000/s",
            "2000 ",
            "broken",
            "MySQL     not available: no rights",
            "ratio           0.20    the service's best load of sends to Kafka",
            "every accepted message, once: 3 accepted, 2 rows, 1 recalled",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn the_tables_of_the_page_have_a_row_for_each_load() {
        let tables = markdown(&sample());
        assert_eq!(
            tables.lines().filter(|line| line.starts_with("| send, open loop")).count(),
            3 + 3,
            "{tables}"
        );
        assert!(tables.contains("| Kafka | 10000 |") && tables.contains("has 0.20 of Kafka"), "{tables}");
    }

    #[test]
    fn a_report_that_ended_early_says_why() {
        let mut report = sample();
        report.ended = Some("the service died".to_owned());
        report.checked = None;
        let text = report.to_string();
        assert!(text.contains("ENDED before all was measured: the service died"), "{text}");
        assert!(text.contains("not checked"), "{text}");
        report.loads.clear();
        assert!(report.to_string().contains("ladder    not measured"), "{report}");
    }
}
