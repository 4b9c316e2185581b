//! The generator of load: an open loop (requests at a constant rate) and a closed loop (each connection sends its
//! next request when the last one is answered).
//!
//! Two threads do all the work, because a generator on the same machine takes cores from the service. One thread
//! reads the answers of all connections. In an open loop the other one sleeps until a request is due and writes it.
//! No request has a task or a timer of its own (`docs/decisions/0045-own-generator.md`).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::measured::{Measured, Point, Times};
use crate::scenario::{Kind, Sent, Talk};
use crate::users::Turn;
use crate::wire::{id_of, parse_answer};

/// The most requests that wait at a time. If the service answers nothing, requests must not fill the memory of the
/// machine.
const MOST_WAITING: usize = 200_000;
/// A request without an answer in this time counts as unanswered.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the generator waits for answers after the last request was due.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the reader looks at the clock while no answer comes.
const TICK: Duration = Duration::from_millis(20);
/// The longest sleep of the writing thread, so that it notices a request to end.
const NAP: Duration = Duration::from_millis(100);
const FIRST_BUFFER: usize = 16 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// The times at which requests leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A constant number each second, whether earlier requests were answered or not.
    Rate(u64),
    /// On each connection, when its last request is answered.
    Closed,
}

/// The end of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After this time no more requests leave.
    Passed(Duration),
    /// When all messages of the history are written.
    HistoryIsWritten,
}

/// An accepted message, and the time of its acceptance.
pub(crate) type Probe = (Sent, Instant);

/// Connections to a service, for one load after another.
pub(crate) struct Generator {
    address: SocketAddr,
    poll: Poll,
    sockets: Vec<Mutex<Socket>>,
    stop: Arc<AtomicBool>,
}

/// Ends the load under way when dropped: the threads of a load do not end with the task that waits for them.
pub(crate) struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Socket {
    stream: TcpStream,
    /// The received bytes of an answer: the first `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    broken: bool,
}

/// A request that is due.
struct Due {
    number: u64,
    at: Instant,
    /// The time when the generator got to the request.
    reached: Instant,
}

/// A written request.
struct InFlight {
    due: Due,
    written: Instant,
    kind: Kind,
    turn: Option<Turn>,
}

/// The free connections, and the requests that wait for one.
struct Turns {
    idle: Vec<usize>,
    waiting: VecDeque<Due>,
    in_flight: Vec<Option<InFlight>>,
}

impl Generator {
    pub(crate) fn open(address: SocketAddr, connections: u32) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut sockets = Vec::new();
        for token in 0..connections as usize {
            let stream = connect(address, poll.registry(), token)
                .map_err(|error| anyhow::anyhow!("{address} cannot be reached: {error}"))?;
            let buffer = vec![0; FIRST_BUFFER];
            sockets.push(Mutex::new(Socket { stream, buffer, filled: 0, broken: false }));
        }
        Ok(Self { address, poll, sockets, stop: Arc::default() })
    }

    /// Ends the next load, and no later one.
    pub(crate) fn stop_on_drop(&mut self) -> StopOnDrop {
        self.stop = Arc::default();
        StopOnDrop(self.stop.clone())
    }

    /// Runs one load until its last answer. Blocks. Calls `each_second` at the end of each second.
    pub(crate) fn run(
        &mut self,
        talk: &Talk,
        pace: Pace,
        until: Until,
        probes: Option<&mpsc::Sender<Probe>>,
        each_second: impl FnMut(Point),
    ) -> anyhow::Result<Measured> {
        let registry = self.poll.registry().try_clone()?;
        let count = self.sockets.len();
        let run = Run {
            address: self.address,
            registry,
            sockets: &self.sockets,
            stop: &self.stop,
            talk,
            until,
            began: Instant::now(),
            next: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            gone: Mutex::new(None),
            all_written: AtomicBool::new(false),
            turns: Mutex::new(Turns {
                idle: (0..count).collect(),
                waiting: VecDeque::new(),
                in_flight: std::iter::repeat_with(|| None).take(count).collect(),
            }),
        };
        let run = &run;
        let measured = std::thread::scope(|scope| {
            match pace {
                Pace::Rate(rate) => {
                    scope.spawn(move || run.write_at(rate));
                }
                Pace::Closed => run.write_first(),
            }
            run.read(&mut self.poll, pace, probes, each_second)
        })?;
        Ok(measured)
    }
}

/// One load.
struct Run<'a> {
    address: SocketAddr,
    registry: Registry,
    sockets: &'a [Mutex<Socket>],
    stop: &'a AtomicBool,
    talk: &'a Talk,
    until: Until,
    began: Instant,
    /// The number of the next request.
    next: AtomicU64,
    left_out: AtomicU64,
    /// The reason why no more requests can be written.
    gone: Mutex<Option<String>>,
    /// No more requests become due.
    all_written: AtomicBool,
    turns: Mutex<Turns>,
}

impl Run<'_> {
    /// Writes each request when it is due.
    fn write_at(&self, rate: u64) {
        let mut bytes = Vec::new();
        let count = match self.until {
            Until::Passed(time) => rate.saturating_mul(time.as_secs()),
            Until::HistoryIsWritten => self.talk.history_size(),
        };
        for number in 0..count {
            let at = self.began + Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate);
            loop {
                if self.is_over() {
                    self.all_written.store(true, Ordering::Release);
                    return;
                }
                match at.checked_duration_since(Instant::now()) {
                    Some(early) if !early.is_zero() => std::thread::sleep(early.min(NAP)),
                    _ => break,
                }
            }
            self.next.store(number + 1, Ordering::Relaxed);
            let due = Due { number, at, reached: Instant::now() };
            let mut turns = self.turns.lock();
            if let Some(socket) = turns.idle.pop() {
                drop(turns);
                self.write(socket, due, &mut bytes);
            } else if turns.waiting.len() < MOST_WAITING {
                turns.waiting.push_back(due);
            } else {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.all_written.store(true, Ordering::Release);
    }

    /// Writes the first request of each connection of a closed loop.
    fn write_first(&self) {
        let mut bytes = Vec::new();
        loop {
            let Some(socket) = self.turns.lock().idle.pop() else { break };
            let Some(due) = self.due_now() else {
                self.turns.lock().idle.push(socket);
                break;
            };
            self.write(socket, due, &mut bytes);
        }
    }

    /// The next request of a closed loop. It is due at once.
    fn due_now(&self) -> Option<Due> {
        let number = self.next.load(Ordering::Relaxed);
        let goes_on = match self.until {
            Until::Passed(time) => self.began.elapsed() < time,
            Until::HistoryIsWritten => number < self.talk.history_size(),
        };
        if !goes_on || self.is_over() {
            self.all_written.store(true, Ordering::Release);
            return None;
        }
        self.next.store(number + 1, Ordering::Relaxed);
        let at = Instant::now();
        Some(Due { number, at, reached: at })
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.gone.lock().is_some()
    }

    /// Writes one request on a free connection. Opens the connection again if the service has closed it meanwhile.
    fn write(&self, token: usize, due: Due, bytes: &mut Vec<u8>) {
        bytes.clear();
        let (kind, turn) = match self.until {
            Until::HistoryIsWritten => self.talk.write_history(due.number, bytes),
            Until::Passed(_) => self.talk.write(due.number, bytes),
        };
        let mut socket = self.sockets[token].lock();
        let written = Instant::now();
        self.turns.lock().in_flight[token] = Some(InFlight { due, written, kind, turn });
        if socket.broken || socket.stream.write_all(bytes).is_err() {
            match connect(self.address, &self.registry, token) {
                Ok(stream) => {
                    *socket = Socket {
                        stream,
                        buffer: std::mem::take(&mut socket.buffer),
                        filled: 0,
                        broken: false,
                    };
                    // A request fits into the empty buffer of a new connection. The reader meets a failure.
                    socket.broken = socket.stream.write_all(bytes).is_err();
                }
                Err(error) => {
                    socket.broken = true;
                    let reason = format!("the service cannot be reached any more: {error}");
                    self.gone.lock().get_or_insert(reason);
                }
            }
        }
    }

    /// Reads answers until the last one.
    fn read(
        &self,
        poll: &mut Poll,
        pace: Pace,
        probes: Option<&mpsc::Sender<Probe>>,
        mut each_second: impl FnMut(Point),
    ) -> anyhow::Result<Measured> {
        let mut events = Events::with_capacity(self.sockets.len().clamp(16, 1_024));
        let mut measured = Measured::new();
        let mut bytes = Vec::new();
        let mut seconds = 0;
        let mut looked = Instant::now();
        let mut last_answer = self.began;
        let mut last_due = None;
        loop {
            match poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                let token = event.token().0;
                let Some(answer) = self.take_answer(token) else { continue };
                last_answer = Instant::now();
                if self.count(token, answer, last_answer, &mut measured, probes) {
                    self.go_on(token, pace, &mut bytes);
                }
            }
            while self.began.elapsed() >= SECOND * (seconds + 1) {
                seconds += 1;
                each_second(measured.end_second(u64::from(seconds)));
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                self.give_up_late(&mut measured, pace, &mut bytes);
                if last_due.is_none() && self.all_written.load(Ordering::Acquire) {
                    last_due = Some(looked);
                }
                if self.is_finished(last_due) {
                    break;
                }
            }
        }
        self.abandon(&mut measured);
        measured.due = self.next.load(Ordering::Relaxed);
        measured.left_out = self.left_out.load(Ordering::Relaxed);
        measured.took = last_answer.duration_since(self.began);
        measured.ended.clone_from(&self.gone.lock());
        Ok(measured)
    }

    /// Gives up the requests that have no answer. The next load must not take a late answer for its own.
    fn abandon(&self, measured: &mut Measured) {
        // The writing thread locks a connection before the turns, so neither lock may be held here while taking the
        // other.
        let flights: Vec<Option<Kind>> = self
            .turns
            .lock()
            .in_flight
            .iter()
            .map(|flight| flight.as_ref().map(|flight| flight.kind))
            .collect();
        for (socket, kind) in self.sockets.iter().zip(flights) {
            if let Some(kind) = kind {
                socket.lock().broken = true;
                measured.unsure += u64::from(kind == Kind::Send);
            }
        }
    }

    /// True if no more answers can come, or only too late. No request was due after `last_due`.
    fn is_finished(&self, last_due: Option<Instant>) -> bool {
        if self.is_over() {
            return true;
        }
        let Some(last_due) = last_due else { return false };
        let turns = self.turns.lock();
        let none = turns.waiting.is_empty() && turns.in_flight.iter().all(Option::is_none);
        none || last_due.elapsed() > LAST_ANSWERS
    }

    /// Reads from a connection: an answer, or the reason why no more answers come.
    fn take_answer(&self, token: usize) -> Option<Result<(u16, Vec<u8>), String>> {
        let socket = &mut *self.sockets[token].lock();
        if socket.broken {
            return Some(Err("the connection broke".to_owned()));
        }
        loop {
            if socket.filled == socket.buffer.len() {
                socket.buffer.resize(socket.buffer.len() * 2, 0);
            }
            let room = socket.buffer.len() - socket.filled;
            let read = match socket.stream.read(&mut socket.buffer[socket.filled..]) {
                Ok(0) => Err("the connection was closed".to_owned()),
                Ok(read) => Ok(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(format!("the connection broke: {}", error.kind())),
            };
            let read = match read {
                Ok(read) => read,
                Err(reason) => {
                    socket.broken = true;
                    return Some(Err(reason));
                }
            };
            socket.filled += read;
            match parse_answer(&socket.buffer[..socket.filled]) {
                Ok(Some(answer)) => {
                    let body = socket.buffer[answer.body.clone()].to_vec();
                    socket.filled = 0;
                    socket.broken = answer.closes;
                    return Some(Ok((answer.status, body)));
                }
                // Fewer bytes came than there was room for; the rest makes another event.
                Ok(None) if read < room => return None,
                Ok(None) => {}
                Err(reason) => {
                    socket.broken = true;
                    return Some(Err(reason));
                }
            }
        }
    }

    /// Counts an answer of a connection. False if no request was under way on it.
    fn count(
        &self,
        token: usize,
        answer: Result<(u16, Vec<u8>), String>,
        answered: Instant,
        measured: &mut Measured,
        probes: Option<&mpsc::Sender<Probe>>,
    ) -> bool {
        let Some(InFlight { due, written, kind, turn }) = self.turns.lock().in_flight[token].take() else {
            return false;
        };
        let times = Times {
            late: due.reached.saturating_duration_since(due.at),
            waited: written.saturating_duration_since(due.reached),
            latency: answered.saturating_duration_since(due.at),
        };
        if kind == Kind::Send && !matches!(answer, Ok((..500, _))) {
            measured.unsure += 1;
        }
        let id = match (&answer, turn) {
            (Ok((201, body)), Some(turn)) => id_of(body).map(|id| Sent { id, turn }),
            _ => None,
        };
        measured.count(kind, &times, code_of(answer));
        if let Some(sent) = id {
            measured.accepted.push(sent.id);
            // A watched message is not recalled.
            match probes.map(mpsc::Sender::try_reserve) {
                Some(Ok(place)) => place.send((sent, answered)),
                _ => self.talk.remember(sent),
            }
        }
        true
    }

    /// Gives a free connection its next request.
    fn go_on(&self, token: usize, pace: Pace, bytes: &mut Vec<u8>) {
        let due = {
            let mut turns = self.turns.lock();
            match pace {
                Pace::Rate(_) => {
                    let due = turns.waiting.pop_front();
                    if due.is_none() {
                        turns.idle.push(token);
                    }
                    due
                }
                Pace::Closed => None,
            }
        };
        let due = if pace == Pace::Closed { self.due_now() } else { due };
        if let Some(due) = due.filter(|_| !self.is_over()) {
            self.write(token, due, bytes);
        }
    }

    /// Counts requests that have waited too long for an answer, and closes their connections.
    fn give_up_late(&self, measured: &mut Measured, pace: Pace, bytes: &mut Vec<u8>) {
        for token in 0..self.sockets.len() {
            let late = self.turns.lock().in_flight[token]
                .as_ref()
                .is_some_and(|flight| flight.written.elapsed() > TIMEOUT);
            if late {
                self.sockets[token].lock().broken = true;
                let reason = format!("no answer within {} s", TIMEOUT.as_secs());
                if self.count(token, Err(reason), Instant::now(), measured, None) {
                    self.go_on(token, pace, bytes);
                }
            }
        }
    }
}

fn connect(address: SocketAddr, registry: &Registry, token: usize) -> std::io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    registry.register(&mut stream, Token(token), Interest::READABLE)?;
    Ok(stream)
}

/// The code of an error answer; `None` for a success.
fn code_of(answer: Result<(u16, Vec<u8>), String>) -> Option<String> {
    match answer {
        Ok((..400, _)) => None,
        Ok((status, body)) => {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let code = problem["code"].as_str().unwrap_or("no problem in the body");
            Some(format!("{status} {code}"))
        }
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_success_has_no_code() {
        assert_eq!(code_of(Ok((201, Vec::new()))), None);
        assert_eq!(
            code_of(Ok((401, br#"{"code":"unauthorized"}"#.to_vec()))).as_deref(),
            Some("401 unauthorized")
        );
        assert_eq!(code_of(Ok((502, b"<html>".to_vec()))).as_deref(), Some("502 no problem in the body"));
        assert_eq!(code_of(Err("the connection broke".to_owned())).as_deref(), Some("the connection broke"));
    }
}
