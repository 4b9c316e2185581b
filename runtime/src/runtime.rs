//! Everything in one process: the functions, the gateway in front of them, the Kafka trigger and the schedule behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hongyan::app::App;
use hongyan::clock::Clock;
use hongyan::config::Config;
use hongyan::error::{Retry, Server, ServerError};
use hongyan::store::Migration;
use hongyan_scheduled_compensator::Summary;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use url::Url;

use crate::functions::InProcess;
use crate::gateway::{self, Behind, Gateway, GatewayOptions, HealthCheck, Metrics, ServerHealth};
use crate::host::FunctionHost;
use crate::invoke_api::InvokeApi;
use crate::schedule::{self, Schedule};
use crate::trigger::{Trigger, TriggerError, TriggerHealth, TriggerOptions};

/// How long `GET /health` waits for a server.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The host of the functions.
#[derive(Clone)]
pub enum Host {
    /// This process.
    InProcess,
    /// Lambda, or an emulator of it. Its functions must be given the same settings, with `PUSH_ENDPOINT` set to
    /// [`own_endpoint`] of the listener.
    InvokeApi(InvokeApi),
}

/// How a start treats tables that are not up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldTables {
    /// The start brings the tables up to date.
    Migrate,
    /// The start fails.
    Refuse,
}

/// The options of a runtime. [`Self::new`] has the defaults, which stand in parentheses.
pub struct RuntimeOptions {
    /// The settings. Without `PUSH_ENDPOINT`, pushes go through the runtime's own gateway.
    pub config: Config,
    /// The listener of the gateway; see [`crate::gateway::bind`].
    pub listener: TcpListener,
    /// The listener for the paths of functions and operators (the same as `listener`).
    pub internal: Option<TcpListener>,
    /// The clock (the machine's).
    pub clock: Clock,
    /// The host of the functions (this process).
    pub host: Host,
    /// The limits of the gateway.
    pub gateway: GatewayOptions,
    /// How tables that are not up to date are treated (they are brought up to date).
    pub old_tables: OldTables,
    /// How Kafka is polled (by the settings). Without a trigger nothing is persisted.
    pub trigger: Option<TriggerOptions>,
    /// How often the compensator runs (every minute). Without a schedule no lost message is sent again.
    pub schedule: Option<Duration>,
    /// The metrics behind `GET /metrics`.
    pub metrics: Option<PrometheusHandle>,
}

impl RuntimeOptions {
    /// The options of `./dev run`.
    pub fn new(config: Config, listener: TcpListener) -> Self {
        Self {
            trigger: Some(TriggerOptions::new(config.kafka.clone())),
            config,
            listener,
            clock: Clock::system(),
            host: Host::InProcess,
            gateway: GatewayOptions::default(),
            old_tables: OldTables::Migrate,
            internal: None,
            schedule: Some(schedule::INTERVAL),
            metrics: None,
        }
    }
}

/// A runtime does not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server is away, or refuses.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The trigger does not start.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// The tables are not up to date, and the start may not change them.
    #[error(
        "MYSQL_URL: the tables are not up to date: {missing} of this version's migrations have not been applied, \
         beginning with {first}; run `hongyan migrate`"
    )]
    OldTables {
        /// How many migrations the database lacks.
        missing: usize,
        /// The first of these migrations.
        first: Migration,
    },
    /// The listener cannot be used.
    #[error("the gateway cannot listen (HONGYAN_LISTEN, --listen): {0}")]
    Listen(#[from] std::io::Error),
}

/// A runtime that serves. Stop it with [`Self::stop`]; dropping it cuts off what is under way.
pub struct Runtime {
    app: Arc<App>,
    gateway: Gateway,
    trigger: Option<Trigger>,
    schedule: Option<Schedule<Summary>>,
}

impl Runtime {
    /// Starts the parts from the back to the front: once the gateway answers, everything behind it does.
    pub async fn start(options: RuntimeOptions) -> Result<Self, StartError> {
        let mut config = options.config.clone();
        if config.push.endpoint.is_none() {
            let listener = options.internal.as_ref().unwrap_or(&options.listener);
            config.push.endpoint = Some(own_endpoint(listener.local_addr()?));
        }
        let app = Arc::new(App::new(&config, options.clock.clone())?);
        let started = match options.host.clone() {
            Host::InProcess => Self::start_with(Arc::new(InProcess::new(app.clone())), &app, options).await,
            Host::InvokeApi(functions) => Self::start_with(Arc::new(functions), &app, options).await,
        };
        if started.is_err() {
            app.shutdown().await;
        }
        started
    }

    async fn start_with(
        functions: Arc<dyn FunctionHost>,
        app: &Arc<App>,
        options: RuntimeOptions,
    ) -> Result<Self, StartError> {
        match options.old_tables {
            OldTables::Migrate => app.store.migrate(|_| ()).await?,
            OldTables::Refuse => {
                let missing = app.store.pending_migrations().await?;
                if let Some(first) = missing.first() {
                    return Err(StartError::OldTables { missing: missing.len(), first: first.clone() });
                }
            }
        }
        let trigger = match options.trigger {
            Some(options) => {
                let functions = functions.clone();
                Some(Trigger::start(options, move |event| functions.kafka(event)).await?)
            }
            None => None,
        };
        let schedule = options.schedule.map(|interval| {
            let functions = functions.clone();
            Schedule::start(interval, options.clock.clone(), move |event| functions.schedule(event))
        });
        let behind = Behind {
            functions,
            auth: app.auth.clone(),
            clock: options.clock,
            health: health_of(app.clone(), trigger.as_ref().map(Trigger::health)),
            metrics: options.metrics.map(|handle| metrics_of(app.clone(), handle)),
        };
        let gateway = Gateway::start(options.listener, options.internal, options.gateway, behind)?;
        Ok(Self { app: app.clone(), gateway, trigger, schedule })
    }

    /// The address that the gateway listens on.
    pub fn addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    /// The clients and settings of the functions.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The trigger, unless it was left out.
    pub fn trigger(&self) -> Option<&Trigger> {
        self.trigger.as_ref()
    }

    /// The schedule, unless it was left out.
    pub fn schedule(&self) -> Option<&Schedule<Summary>> {
        self.schedule.as_ref()
    }

    /// From now on `GET /ready` answers 503, so that new requests go elsewhere. Nothing else changes.
    pub fn leave(&self) {
        self.gateway.leave();
    }

    /// Stops from the front to the back: answers accepted requests, finishes and commits batches in flight, ends the
    /// run of the compensator, waits until Kafka has the produced records, and gives the worker number back.
    pub async fn stop(self) {
        self.gateway.drain().await;
        if let Some(trigger) = self.trigger {
            trigger.stop().await;
        }
        if let Some(schedule) = self.schedule {
            schedule.stop().await;
        }
        self.app.shutdown().await;
        // The internal listener stops last: until then it reports the progress of the stop.
        drop(self.gateway);
    }
}

/// The address under which functions on this machine reach the gateway that listens at `address`, for pushes.
pub fn own_endpoint(mut address: SocketAddr) -> Url {
    if address.ip().is_unspecified() {
        // No client can connect to "any address", and `@connections` answers loopback peers only.
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    gateway::url_of(address)
}

/// Renders the metrics, with the states of the process as they are now.
fn metrics_of(app: Arc<App>, handle: PrometheusHandle) -> Metrics {
    Arc::new(move || {
        app.observe();
        handle.render()
    })
}

/// Asks the three servers at the same time. Kafka also counts as away while no thread reads the topic.
fn health_of(app: Arc<App>, trigger: Option<TriggerHealth>) -> HealthCheck {
    Arc::new(move || {
        let (app, trigger) = (app.clone(), trigger.clone());
        async move {
            let (redis, mut kafka, mysql) = tokio::join!(
                in_time(Server::Redis, app.cache.ping()),
                in_time(Server::Kafka, app.queue.ping()),
                in_time(Server::MySql, app.store.ping()),
            );
            kafka.answer = kafka.answer.and_then(|()| trigger.map_or(Ok(()), |trigger| trigger.check()));
            vec![redis, kafka, mysql]
        }
        .boxed()
    })
}

async fn in_time(server: Server, ping: impl Future<Output = Result<(), ServerError>>) -> ServerHealth {
    let answer = tokio::time::timeout(HEALTH_TIMEOUT, ping).await.unwrap_or_else(|_| {
        let source = "no answer within 2 s".into();
        Err(ServerError { server, action: "health", retry: Retry::Transient, source })
    });
    ServerHealth { server, answer }
}
