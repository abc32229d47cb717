//! `berthd`: reads its options, takes the lock, finds everything again, serves.
//!
//! Does not know what is served.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_driver::api::varlink::{Listener, serve};
use berth_driver::api::{dbus, metrics};
use berth_driver::engine::{Engine, Parts};
use berth_driver::journal;
use berth_driver::paths::Layout;
use berth_driver::service::{self, Settings};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Environment variable of tests that may not make control groups: plain folders take their place.
const PRETEND_CGROUPS: &str = "BERTH_TEST_PRETEND_CGROUPS";

/// The daemon of Berth: owns the definitions of system containers and runs them.
#[derive(Debug, Parser)]
#[command(name = "berthd", version)]
struct Options {
    /// Put all files under this folder instead of the system's places
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Read the settings from this file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stay in the foreground; the daemon always does
    #[arg(long)]
    foreground: bool,
    /// How much is logged: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
    /// Serve figures of all domains for Prometheus at HOST:PORT or unix:PATH, under /metrics
    #[arg(long, value_name = "ADDR")]
    metrics: Option<metrics::Address>,
    /// The controller program
    #[arg(long, value_name = "PATH")]
    controller: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // Once this is gone no more is told.
    let log = match journal::start(&options.log) {
        Ok(log) => log,
        Err(e) => {
            // If standard error is closed there is nobody to tell.
            drop(writeln!(std::io::stderr(), "berthd: {e}"));
            return ExitCode::FAILURE;
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log.fail(&e);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Err(e) = berth_driver::host::descriptors::raise() {
        tracing::warn!("cannot raise the limit of open files: {e}");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let layout = match &options.root {
        Some(root) => Layout::rooted(root).map_err(|e| format!("cannot use '{}': {e}", root.display()))?,
        None => Layout::system(),
    };
    let lock = layout.prepare().map_err(|e| e.to_string())?;
    let settings = match &options.config {
        Some(path) => Settings { path: path.clone(), named: true },
        None => Settings { path: layout.config(), named: false },
    };
    let parts = Parts {
        config: settings.load()?,
        controller: controller(options.controller.as_deref())?,
        pretend_cgroups: std::env::var_os(PRETEND_CGROUPS).is_some(),
        layout,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)))
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start threads: {e}"))?;
    let bus = dbus::Address::choose(parts.config.dbus.bus.as_ref(), options.root.is_some());
    let done = runtime.block_on(daemon(parts, settings, options.metrics.as_ref(), bus));
    // What is under way is found again by the next daemon.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    drop(lock);
    done
}

/// Beside our own program, where a build or a package puts it, or where packages of other systems do.
fn controller(wanted: Option<&Path>) -> Result<PathBuf, String> {
    let absolute =
        |p: &Path| std::path::absolute(p).map_err(|e| format!("cannot use '{}': {e}", p.display()));
    if let Some(path) = wanted {
        return absolute(path);
    }
    let own = std::env::current_exe().map_err(|e| format!("cannot tell where berthd is: {e}"))?;
    let beside = own.with_file_name("berth-controller");
    let installed = own.parent().and_then(Path::parent).map(|prefix| prefix.join("libexec/berth-controller"));
    let candidates = [Some(beside.clone()), installed, Some("/usr/libexec/berth-controller".into())];
    let found = candidates.into_iter().flatten().find(|p| p.is_file());
    Ok(found.unwrap_or(beside))
}

async fn daemon(
    parts: Parts,
    settings: Settings,
    page: Option<&metrics::Address>,
    bus: dbus::Address,
) -> Result<(), String> {
    let failed = |what: &'static str| move |e: std::io::Error| format!("cannot {what}: {e}");
    // Before anything else: each of them ends a process that does not wait for it, and SIGHUP never ends this one.
    let hangups = signal(SignalKind::hangup()).map_err(failed("wait for signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("wait for signals"))?;
    let run_folder = parts.layout.run().to_owned();
    let engine = Engine::new(parts).map_err(failed("start"))?;
    engine.end_abandoned().await.map_err(failed("end what was being started"))?;
    let report = engine.recover().await.map_err(failed("find the domains again"))?;
    tracing::info!(
        "{} defined, {} adopted, {} ended meanwhile, {} files set aside",
        report.defined,
        report.adopted,
        report.ended,
        report.set_aside
    );
    let listener = match Listener::inherited().map_err(|e| e.to_string())? {
        Some(listener) => listener,
        None => Listener::bind(&run_folder).map_err(|e| e.to_string())?,
    };
    let mut served_page = None;
    if let Some(address) = page {
        let started = metrics::start(engine.clone(), address).await;
        served_page = Some(started.map_err(|e| format!("cannot serve metrics at '{address}': {e}"))?);
    }
    // Nothing waits for the bus.
    dbus::start(engine.clone(), bus);
    let serving = tokio::spawn(serve(engine.clone(), listener));
    engine.autostart().await.map_err(failed("start what starts with the host"))?;
    service::ready(&engine);
    let reloading = tokio::spawn(service::reload(engine.clone(), settings, hangups));
    tracing::info!("ready");
    tokio::select! {
        served = serving => match served {
            Ok(Err(e)) => return Err(e.to_string()),
            Ok(Ok(())) => {}
            Err(e) => return Err(e.to_string()),
        },
        _ = terminate.recv() => tracing::info!("terminated; containers go on"),
        _ = interrupt.recv() => tracing::info!("interrupted; containers go on"),
    }
    // It would say that all is ready.
    reloading.abort();
    service::stopping();
    drop(served_page);
    Ok(())
}
