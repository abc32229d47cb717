//! What each call does.

use std::os::fd::{AsFd, OwnedFd};

use base64::Engine as _;
use berth_schemas::controller::{
    AttachConsoleIn, AttachConsoleOut, ControllerEvent, ControllerEventKind, DestroyIn, Error, GetCpuTimesIn,
    GetCpuTimesOut, GetStatusIn, GetStatusOut, ListDevicesIn, Method, OpenConsoleIn, OpenConsoleOut,
    ResizeConsoleIn, ResizeConsoleOut, SendSignalIn, SendSignalOut, ShutdownIn, SubscribeIn, SubscribeOut,
};
use berth_schemas::service::ServiceError;
use berth_schemas::wire;
use berth_sys::process::send_signal;
use rustix::io::Errno;
use rustix::termios::Winsize;
use serde_json::Value;

use crate::console::host_pty::{Side, make};
use crate::console::viewer::{Line, Mode};
use crate::run::{Controller, cpu_times::CpuTimes, life::Phase, shutdown};

use super::call::{self, Call, Wanted};

/// The last real-time signal of Linux.
const LAST_SIGNAL: i32 = 64;

/// The answer of a call: bytes, with a descriptor perhaps.
struct Reply {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, descriptor: None }
    }
}

/// `Err` are the bytes of an error; `Ok(None)`: answered otherwise or later.
type Handled = Result<Option<Reply>, Vec<u8>>;

/// An event as a reply to a subscriber. Nothing comes after the end.
pub fn event_bytes(event: &ControllerEvent) -> Vec<u8> {
    let out = SubscribeOut { event: Some(event.clone()), sequence: event.sequence };
    wire::reply_bytes(&out, event.kind != ControllerEventKind::Ended)
}

/// A reply to a subscriber that tells no event.
pub fn no_event_bytes(sequence: i64) -> Vec<u8> {
    wire::reply_bytes(&SubscribeOut { event: None, sequence }, true)
}

fn no_such(message: String) -> Vec<u8> {
    call::error(&Error::NoSuchConsole { message })
}

fn invalid(parameter: &str) -> Vec<u8> {
    call::service_error(&ServiceError::InvalidParameter(parameter.to_owned()))
}

impl Controller {
    /// Handles the calls that a connection has sent.
    pub fn serve(&mut self, id: u64) {
        loop {
            let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
            let message = match connection.take_message() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(e) => {
                    crate::note(&e.to_string());
                    connection.gone = true;
                    return;
                }
            };
            match call::read(&message) {
                Ok(call) => self.handle_call(id, call),
                Err(e) => {
                    crate::note(&e.to_string());
                    connection.gone = true;
                    return;
                }
            }
        }
    }

    fn handle_call(&mut self, id: u64, call: Call) {
        let (oneway, more) = (call.oneway, call.more);
        let handled = match call.wanted {
            Wanted::Answered(bytes) => Ok(Some(bytes.into())),
            Wanted::Method(method) => self.method(id, method, call.parameters, more, oneway),
        };
        let reply = match handled {
            Ok(None) => return,
            Ok(Some(reply)) => reply,
            Err(bytes) => bytes.into(),
        };
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && !oneway) {
            connection.send(reply.bytes, reply.descriptor);
        }
    }

    fn method(
        &mut self,
        id: u64,
        method: Method,
        parameters: Option<Value>,
        more: bool,
        oneway: bool,
    ) -> Handled {
        match method {
            Method::Launch | Method::PrepareNetwork => Err(call::error(&Error::InvalidState {
                message: "the container has been launched already".into(),
            })),
            Method::GetStatus => {
                call::parameters::<GetStatusIn>(parameters)?;
                Ok(Some(call::good(&GetStatusOut { status: self.status() }).into()))
            }
            Method::Subscribe => self.subscribe(id, call::parameters(parameters)?, more, oneway),
            Method::Shutdown => self.shutdown(id, call::parameters(parameters)?, oneway),
            Method::SendSignal => self.send_signal(&call::parameters(parameters)?),
            Method::Destroy => {
                call::parameters::<DestroyIn>(parameters)?;
                if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
                    connection.wants_end = !oneway;
                }
                self.destroy();
                Ok(None)
            }
            Method::AttachConsole => self.attach(id, &call::parameters(parameters)?),
            Method::OpenConsole => self.open(&call::parameters(parameters)?),
            Method::ResizeConsole => self.resize(&call::parameters(parameters)?),
            Method::AttachDevice => {
                Ok(self.attach_device(id, call::parameters(parameters)?, oneway)?.map(Into::into))
            }
            Method::DetachDevice => {
                Ok(self.detach_device(id, call::parameters(parameters)?, oneway)?.map(Into::into))
            }
            Method::GetCpuTimes => {
                call::parameters::<GetCpuTimesIn>(parameters)?;
                let n_sec = self.cpu_times.as_ref().map(CpuTimes::read);
                Ok(Some(call::good(&GetCpuTimesOut { n_sec }).into()))
            }
            Method::ListDevices => {
                call::parameters::<ListDevicesIn>(parameters)?;
                Ok(Some(self.list_devices().into()))
            }
        }
    }

    fn subscribe(&mut self, id: u64, wanted: SubscribeIn, more: bool, oneway: bool) -> Handled {
        let sequence = self.history.sequence();
        let events: Vec<ControllerEvent> =
            wanted.since.map(|since| self.history.since(since).cloned().collect()).unwrap_or_default();
        if !more || oneway {
            let event = events.into_iter().next();
            let sequence = event.as_ref().map_or(sequence, |e| e.sequence);
            return Ok(Some(call::good(&SubscribeOut { event, sequence }).into()));
        }
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return Ok(None) };
        connection.subscribed = true;
        if events.is_empty() {
            connection.send(no_event_bytes(sequence), None);
        }
        for event in &events {
            connection.send(event_bytes(event), None);
        }
        Ok(None)
    }

    fn shutdown(&mut self, id: u64, wanted: ShutdownIn, oneway: bool) -> Handled {
        if !matches!(self.phase, Phase::Running) || self.init.is_none() {
            return Err(call::error(&Error::InvalidState { message: "init is not running".into() }));
        }
        let modes = match &wanted.modes {
            None => vec![shutdown::Mode::Signal, shutdown::Mode::Initctl],
            Some(names) => names
                .iter()
                .map(|name| match name.as_str() {
                    "signal" => Ok(shutdown::Mode::Signal),
                    "initctl" => Ok(shutdown::Mode::Initctl),
                    _ => Err(invalid("modes")),
                })
                .collect::<Result<_, _>>()?,
        };
        self.ask(id, oneway, wanted.restart, &modes);
        Ok(None)
    }

    fn send_signal(&self, wanted: &SendSignalIn) -> Handled {
        let signal = i32::try_from(wanted.signal).ok().filter(|n| (0..=LAST_SIGNAL).contains(n));
        let signal = signal.ok_or_else(|| invalid("signal"))?;
        let refused = |message: String| call::error(&Error::InvalidState { message });
        let not_running = || refused("init is not running".into());
        let init = self.init.as_ref().filter(|_| matches!(self.phase, Phase::Running));
        let init = init.ok_or_else(not_running)?;
        match send_signal(init.pidfd.as_fd(), signal) {
            Ok(()) => Ok(Some(call::good(&SendSignalOut {}).into())),
            Err(Errno::SRCH) => Err(not_running()),
            Err(e) => Err(refused(format!("cannot send signal {signal} to init: {e}"))),
        }
    }

    fn console(&self, device: Option<&str>) -> Result<usize, Vec<u8>> {
        self.consoles.position(device).ok_or_else(|| {
            no_such(match device {
                Some(name) => format!("there is no console '{name}'"),
                None => "the domain has no console".to_owned(),
            })
        })
    }

    fn attach(&mut self, id: u64, wanted: &AttachConsoleIn) -> Handled {
        // All of them, also those that nobody names: none may wait for the next call.
        let descriptors = self.connections.iter_mut().find(|c| c.id == id).map(|c| c.take_descriptors());
        let index = self.console(wanted.device.as_deref())?;
        let mode = Mode::from_name(&wanted.mode).ok_or_else(|| invalid("mode"))?;
        let size = match (wanted.columns, wanted.rows) {
            (Some(columns), Some(rows)) => Some(window(columns, rows)?),
            _ => None,
        };
        let early = match &wanted.early {
            Some(text) => {
                base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| invalid("early"))?
            }
            None => Vec::new(),
        };
        let socket = usize::try_from(wanted.file_descriptor)
            .ok()
            .and_then(|at| descriptors.unwrap_or_default().into_iter().nth(at))
            .ok_or_else(|| invalid("fileDescriptor"))?;
        let viewer = self.consoles.number();
        let console = &mut self.consoles.list[index];
        let writer = console.attach(viewer, Line::Socket(socket), mode, !wanted.skip_replay);
        if let Some(greeting) = &wanted.greeting {
            let text = greeting.replace("@WRITER@", if writer { "true" } else { "false" });
            let mut bytes = text.replace("@VIEWER@", &viewer.to_string()).into_bytes();
            bytes.push(0);
            console.greet(viewer, bytes);
        }
        if let Some(size) = size.filter(|_| writer) {
            console.set_size(size);
        }
        let device = console.device.clone();
        console.add_early(viewer, &early);
        console.flush_viewer(viewer);
        Ok(Some(call::good(&AttachConsoleOut { device, writer, viewer: viewer as i64 }).into()))
    }

    fn open(&mut self, wanted: &OpenConsoleIn) -> Handled {
        let index = self.console(wanted.device.as_deref())?;
        let mode = Mode::from_name(&wanted.mode).ok_or_else(|| invalid("mode"))?;
        let (pty, slave) = make(Side::Slave).map_err(|e| {
            call::error(&Error::InvalidState { message: format!("cannot make a terminal: {e}") })
        })?;
        let viewer = self.consoles.number();
        let console = &mut self.consoles.list[index];
        let writer = console.attach(viewer, Line::Pty(slave), mode, true);
        let device = console.device.clone();
        console.flush_viewer(viewer);
        let out = OpenConsoleOut { pty_file_descriptor: 0, device, writer, viewer: viewer as i64 };
        Ok(Some(Reply { bytes: call::good(&out), descriptor: Some(pty.master) }))
    }

    fn resize(&mut self, wanted: &ResizeConsoleIn) -> Handled {
        let index = self.console(wanted.device.as_deref())?;
        let size = window(wanted.columns, wanted.rows)?;
        let console = &mut self.consoles.list[index];
        match wanted.viewer {
            None => console.set_size(size),
            Some(number) => {
                let viewer = console.viewers.iter().find(|v| v.id as i64 == number).map(|v| v.id);
                let viewer = viewer.ok_or_else(|| no_such(format!("there is no viewer {number}")))?;
                // Others have their own windows, and only one can be the container's.
                if console.is_writer(viewer) {
                    console.set_size(size);
                }
            }
        }
        Ok(Some(call::good(&ResizeConsoleOut {}).into()))
    }
}

fn window(columns: i64, rows: i64) -> Result<Winsize, Vec<u8>> {
    let number = |value: i64, name| u16::try_from(value).ok().filter(|v| *v > 0).ok_or_else(|| invalid(name));
    Ok(Winsize {
        ws_col: number(columns, "columns")?,
        ws_row: number(rows, "rows")?,
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}
