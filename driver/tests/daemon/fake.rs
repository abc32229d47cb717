//! The scripted controller: it speaks io.berth.Controller and has no container. What it does follows from its name.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_driver::engine::publish::now_usec;
use berth_driver::wire::{Channel, Message};
use berth_schemas::controller::{
    AttachConsoleIn, ConsoleStatus, ControllerEvent, ControllerEventKind, ControllerExit, ControllerState,
    ControllerStatus, Error, ExitRecord, GetCpuTimesOut, GetStatusOut, LaunchIn, LaunchOut, LaunchPlan,
    Method, OpenConsoleOut, SendSignalIn, ShutdownIn, ShutdownOut, StepFailure, SubscribeIn, SubscribeOut,
};
use berth_schemas::wire::{Parameters, error_bytes, parse_request, reply_bytes};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

/// Changes of devices.
mod devices;

struct State {
    plan: LaunchPlan,
    started: i64,
    restarts: i64,
    events: Vec<ControllerEvent>,
    sender: broadcast::Sender<ControllerEvent>,
}

type Shared = Arc<Mutex<State>>;

fn own_pid() -> i64 {
    i64::from(std::process::id())
}

impl State {
    fn status(&self) -> ControllerStatus {
        ControllerStatus {
            name: self.plan.name.clone(),
            uuid: self.plan.uuid.clone(),
            pid: own_pid(),
            init_pid: Some(own_pid()),
            state: ControllerState::Running,
            started_u_sec: self.started,
            restarts: self.restarts,
            consoles: (self.plan.consoles.iter())
                .map(|c| ConsoleStatus {
                    device: c.device.clone(),
                    host_path: "/dev/pts/99".into(),
                    viewers: 0,
                    printed: 0,
                })
                .collect(),
            ready: Some(self.events.iter().any(|e| e.kind == ControllerEventKind::Ready)),
            sequence: self.events.last().map_or(0, |e| e.sequence),
        }
    }

    fn event(&mut self, kind: ControllerEventKind, exit: &str, status: Option<i64>) {
        let event = ControllerEvent {
            sequence: self.events.last().map_or(0, |e| e.sequence) + 1,
            kind,
            exit: (kind != ControllerEventKind::OomKilled).then(|| ControllerExit {
                kind: exit.into(),
                status,
                signal: None,
                at_u_sec: now_usec(),
            }),
            count: (kind == ControllerEventKind::OomKilled).then_some(2),
            init_pid: (kind == ControllerEventKind::Restarted).then(own_pid),
            residue: Vec::new(),
            failure: None,
        };
        if kind == ControllerEventKind::Restarted {
            self.restarts += 1;
        }
        self.events.push(event.clone());
        if kind == ControllerEventKind::Ended {
            let record =
                ExitRecord { uuid: self.plan.uuid.clone(), pid: own_pid(), events: self.events.clone() };
            std::fs::write(&self.plan.exit_record, serde_json::to_vec(&record).expect("serialises"))
                .expect("record");
        }
        let _ = self.sender.send(event);
    }
}

pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let fd = std::io::stdin().as_fd().try_clone_to_owned().expect("a socket");
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true).expect("nonblocking");
        let mut channel = Channel::new(UnixStream::from_std(stream).expect("stream"));
        let Ok(Some(message)) = channel.next().await else { return };
        let Some((shared, listener)) = launch(&mut channel, message).await else { return };
        tokio::spawn(serve(channel, shared.clone()));
        tokio::spawn(script(shared.clone()));
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            tokio::spawn(serve(Channel::new(stream), shared.clone()));
        }
    });
}

async fn launch(channel: &mut Channel, mut message: Message) -> Option<(Shared, UnixListener)> {
    let request = parse_request(&message.bytes).expect("a call");
    assert_eq!(request.method, Method::Launch.name());
    let plan = LaunchIn::from_value(request.parameters).expect("a plan").plan;
    let wanted = 1 + plan.shared_namespaces.len() + plan.init_file_descriptors.len();
    assert_eq!(message.descriptors.len(), wanted, "descriptors");
    let name = plan.name.clone();
    if name.starts_with("refuse") {
        let failure = StepFailure {
            step: "root".into(),
            operation: "open".into(),
            path: Some(plan.root.source),
            target: None,
            errno: Some(2),
            detail: None,
        };
        let error = Error::LaunchFailed { failure };
        channel.send(&error_bytes(error.name(), &error.parameters()), &[]).await.expect("sent");
        return None;
    }
    if name.starts_with("die") {
        return None;
    }
    if name.starts_with("slow") {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let listener: OwnedFd = message.descriptors.remove(0);
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).expect("nonblocking");
    let (sender, _) = broadcast::channel(64);
    let state = State { plan, started: now_usec(), restarts: 0, events: Vec::new(), sender };
    channel.send(&reply_bytes(&LaunchOut { status: state.status() }, false), &[]).await.expect("sent");
    Some((Arc::new(Mutex::new(state)), UnixListener::from_std(listener).expect("listener")))
}

/// What happens by itself, on a sign: a file beside the exit record.
async fn script(shared: Shared) {
    let (sign, name) = {
        let state = shared.lock().expect("state");
        (format!("{}.sign", state.plan.exit_record), state.plan.name.clone())
    };
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        // One that is just being written is empty.
        let read = std::fs::read_to_string(&sign).ok();
        if let Some(text) = read.filter(|text| !text.is_empty()) {
            let _ = std::fs::remove_file(&sign);
            let mut state = shared.lock().expect("state");
            match text.as_str() {
                "reboot" => state.event(ControllerEventKind::Restarted, "reboot", None),
                "crash" => state.event(ControllerEventKind::Ended, "exited", Some(7)),
                "poweroff" => state.event(ControllerEventKind::Ended, "poweroff", None),
                "oom" => state.event(ControllerEventKind::OomKilled, "", None),
                other => panic!("{name}: what is '{other}'?"),
            }
            if text != "reboot" && text != "oom" {
                drop(state);
                end_soon();
            }
        }
    }
}

fn end_soon() {
    tokio::spawn(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::process::exit(0);
    });
}

async fn serve(mut channel: Channel, shared: Shared) {
    while let Ok(Some(message)) = channel.next().await {
        let request = parse_request(&message.bytes).expect("a call");
        let method = Method::from_name(&request.method).expect("a method");
        if answer(&mut channel, &shared, method, request.parameters, message.descriptors).await.is_none() {
            return;
        }
    }
}

async fn answer(
    channel: &mut Channel,
    shared: &Shared,
    method: Method,
    parameters: Option<Value>,
    descriptors: Vec<OwnedFd>,
) -> Option<()> {
    let bytes = match method {
        Method::PrepareNetwork => unreachable!("links are pretended"),
        Method::Launch => panic!("launched twice"),
        Method::GetStatus => reply_bytes(&GetStatusOut { status: shared.lock().ok()?.status() }, false),
        Method::Subscribe => {
            let since = SubscribeIn::from_value(parameters).ok()?.since.unwrap_or(i64::MAX);
            return subscribe(channel, shared, since).await;
        }
        Method::Shutdown => {
            let asked = ShutdownIn::from_value(parameters).ok()?;
            let mut state = shared.lock().ok()?;
            if state.plan.name.starts_with("deaf") {
                let error = Error::NotAnswering { message: "init does not listen".into() };
                error_bytes(error.name(), &error.parameters())
            } else {
                if asked.restart {
                    state.event(ControllerEventKind::Restarted, "reboot", None);
                } else {
                    state.event(ControllerEventKind::Ended, "poweroff", None);
                    end_soon();
                }
                reply_bytes(&ShutdownOut { asked: "SIGFAKE".into() }, false)
            }
        }
        Method::SendSignal => {
            let signal = SendSignalIn::from_value(parameters).ok()?.signal;
            let path = format!("{}.signal", shared.lock().ok()?.plan.exit_record);
            std::fs::write(path, signal.to_string()).ok()?;
            reply_bytes(&json!({}), false)
        }
        Method::Destroy => {
            let stubborn = shared.lock().ok()?.plan.name.starts_with("stubborn");
            if stubborn {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            shared.lock().ok()?.event(ControllerEventKind::Ended, "destroyed", None);
            end_soon();
            reply_bytes(&json!({}), false)
        }
        Method::AttachConsole => return attach(channel, parameters, descriptors).await,
        Method::OpenConsole => {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().ok()?;
            std::io::Write::write_all(&mut &ours, b"from the console").ok()?;
            let out =
                OpenConsoleOut { pty_file_descriptor: 0, device: "console0".into(), writer: true, viewer: 1 };
            channel.send(&reply_bytes(&out, false), &[theirs.as_fd()]).await.ok()?;
            return Some(());
        }
        Method::ResizeConsole => reply_bytes(&json!({}), false),
        Method::AttachDevice => devices::attach(shared, parameters).await?,
        Method::DetachDevice => devices::detach(shared, parameters).await?,
        Method::ListDevices => devices::list(shared)?,
        Method::GetCpuTimes => {
            let plan = shared.lock().ok()?.plan.clone();
            if plan.name.starts_with("busy") {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let n_sec = plan.count_cpu_times.then(|| vec![7, 0, 5]);
            reply_bytes(&GetCpuTimesOut { n_sec }, false)
        }
    };
    channel.send(&bytes, &[]).await.ok()
}

async fn subscribe(channel: &mut Channel, shared: &Shared, since: i64) -> Option<()> {
    let (old, sequence, mut coming) = {
        let state = shared.lock().ok()?;
        let old: Vec<_> = state.events.iter().filter(|e| e.sequence > since).cloned().collect();
        (old, state.status().sequence, state.sender.subscribe())
    };
    channel.send(&reply_bytes(&SubscribeOut { event: None, sequence }, true), &[]).await.ok()?;
    for event in old {
        let out = SubscribeOut { sequence: event.sequence, event: Some(event) };
        channel.send(&reply_bytes(&out, true), &[]).await.ok()?;
    }
    loop {
        let event = coming.recv().await.ok()?;
        let out = SubscribeOut { sequence: event.sequence, event: Some(event) };
        channel.send(&reply_bytes(&out, true), &[]).await.ok()?;
    }
}

/// Greets the viewer, plays something back, then echoes what comes, in capitals.
async fn attach(channel: &mut Channel, parameters: Option<Value>, descriptors: Vec<OwnedFd>) -> Option<()> {
    let asked = AttachConsoleIn::from_value(parameters).ok()?;
    if asked.mode == "view" {
        let error = Error::NoSuchConsole { message: "not today".into() };
        return channel.send(&error_bytes(error.name(), &error.parameters()), &[]).await.ok();
    }
    let stream = std::os::unix::net::UnixStream::from(descriptors.into_iter().next()?);
    let viewer = UnixStream::from_std(stream).ok()?;
    let greeting = asked.greeting?.replace("@WRITER@", "true").replace("@VIEWER@", "7");
    let early = STANDARD.decode(asked.early.unwrap_or_default()).ok()?;
    let out = json!({ "device": "console0", "writer": true, "viewer": 7 });
    channel.send(&reply_bytes(&out, false), &[]).await.ok()?;
    tokio::spawn(async move {
        let mut text = format!("{greeting}\0replay:").into_bytes();
        text.extend(early.to_ascii_uppercase());
        loop {
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                viewer.writable().await.ok()?;
                if let Ok(n) = viewer.try_write(rest) {
                    rest = &rest[n..];
                }
            }
            let mut chunk = [0; 4096];
            viewer.readable().await.ok()?;
            match viewer.try_read(&mut chunk) {
                Ok(0) => return None::<()>,
                Ok(n) => text = chunk[..n].to_ascii_uppercase(),
                Err(_) => text.clear(),
            }
        }
    });
    Some(())
}
