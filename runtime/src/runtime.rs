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
use crate::gateway::{self, Behind, Gateway, GatewayOptions, HealthCheck, ServerHealth};
use crate::host::FunctionHost;
use crate::invoke_api::InvokeApi;
use crate::schedule::{self, Schedule};
use crate::trigger::{Trigger, TriggerError, TriggerHealth, TriggerOptions};

/// How long `GET /health` waits for a server.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Who hosts the functions.
#[derive(Clone)]
pub enum Host {
    /// This process.
    InProcess,
    /// Lambda, or what stands in for it. Its functions must be given the same settings, with `PUSH_ENDPOINT`:
    /// [`own_endpoint`] of the listener.
    InvokeApi(InvokeApi),
}

/// The fate, at a start, of tables that are not up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldTables {
    /// They are brought up to date.
    Migrate,
    /// The start fails.
    Refuse,
}

/// What a runtime is made of. [`Self::new`] has the defaults.
pub struct RuntimeOptions {
    /// The settings. Without `PUSH_ENDPOINT` pushes go through the runtime's own gateway.
    pub config: Config,
    /// Where the gateway listens; see [`crate::gateway::bind`].
    pub listener: TcpListener,
    /// Where the gateway has the paths for functions and operators (at `listener`, too).
    pub internal: Option<TcpListener>,
    /// Where time comes from (the machine).
    pub clock: Clock,
    /// Who hosts the functions (this process).
    pub host: Host,
    /// The gateway's limits.
    pub gateway: GatewayOptions,
    /// The fate of tables that are not up to date (they are brought up to date).
    pub old_tables: OldTables,
    /// How Kafka is polled (by the settings). Without it nothing is persisted.
    pub trigger: Option<TriggerOptions>,
    /// How often the compensator runs (every minute). Without it nothing is sent again.
    pub schedule: Option<Duration>,
    /// What `GET /metrics` shows.
    pub metrics: Option<PrometheusHandle>,
}

impl RuntimeOptions {
    /// A runtime as `./dev run` has it.
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

/// Why a runtime does not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server is away, or refuses.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The trigger does not start.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// The tables are not up to date, and are not to be changed by a start.
    #[error(
        "MYSQL_URL: the tables are not up to date: {missing} of this version's migrations have not been applied, \
         beginning with {first}; run `hongyan migrate`"
    )]
    OldTables {
        /// How many migrations the database lacks.
        missing: usize,
        /// The first of them.
        first: Migration,
    },
    /// The listener is of no use.
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
            metrics: options.metrics,
        };
        let gateway = Gateway::start(options.listener, options.internal, options.gateway, behind)?;
        Ok(Self { app: app.clone(), gateway, trigger, schedule })
    }

    /// Where the gateway listens.
    pub fn addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    /// What the functions work with.
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

    /// `GET /ready` says no from now on, so that new requests are sent elsewhere. All else goes on as before.
    pub fn leave(&self) {
        self.gateway.leave();
    }

    /// Stops from the front to the back: accepted requests are answered, batches in flight finished and committed, a
    /// run of the compensator ended, then what was produced reaches Kafka and the worker number is given back.
    pub async fn stop(self) {
        self.gateway.drain().await;
        if let Some(trigger) = self.trigger {
            trigger.stop().await;
        }
        if let Some(schedule) = self.schedule {
            schedule.stop().await;
        }
        self.app.shutdown().await;
        // The internal listener is the last to go: until then it tells how the stop is getting on.
        drop(self.gateway);
    }
}

/// The address under which functions on this machine reach the gateway that listens at `address`, for pushes.
pub fn own_endpoint(mut address: SocketAddr) -> Url {
    if address.ip().is_unspecified() {
        // One cannot connect to "any address"; and `@connections` answers loopback peers only.
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    gateway::url_of(address)
}

/// Asks the three servers at the same time. Kafka is not well either while nothing reads the topic.
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
