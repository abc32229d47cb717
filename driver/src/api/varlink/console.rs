//! Consoles: the controller gets the client's socket, or the client a descriptor; the daemon carries no byte itself.
//!
//! Does not know what a console shows.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_schemas::controller;
use berth_schemas::domain::{
    AttachConsoleIn, ConsoleMode, OpenConsoleIn, OpenConsoleOut, ReadConsoleLogIn, ReadConsoleLogOut,
    ResizeConsoleIn, ResizeConsoleOut,
};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;

use crate::api::varlink::connection::{Call, Connection};
use crate::api::varlink::domain::reference;
use crate::api::varlink::reply::CallError;
use crate::engine::controls::from_controller;
use crate::engine::publish::blocking;
use crate::engine::reads::open_log;
use crate::failure::Failure;
use crate::paths::Layout;

/// How much of a log goes into one reply, before base64.
const PIECE: usize = 48 << 10;

fn mode(mode: Option<ConsoleMode>) -> String {
    mode.unwrap_or(ConsoleMode::Shared).as_str().to_owned()
}

/// Refuses sizes that no terminal has: the kernel keeps 16 bits, and none of them can be 0.
fn check_size(size: [(&str, Option<i64>); 2]) -> Result<(), CallError> {
    let odd = |value: &i64| !(1..=i64::from(u16::MAX)).contains(value);
    match size.into_iter().find(|(_, value)| value.as_ref().is_some_and(odd)) {
        Some((name, _)) => Err(ServiceError::InvalidParameter(name.into()).into()),
        None => Ok(()),
    }
}

/// A PTY for the client.
pub async fn open(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = OpenConsoleIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let mode = p.mode.unwrap_or(ConsoleMode::Shared);
    let console = c.engine.open_console(&snapshot, p.device.as_deref(), mode).await?;
    // What is waiting goes first, so that the descriptor goes with its own reply.
    c.out.flush(&mut c.channel).await?;
    let out = OpenConsoleOut { pty_file_descriptor: 0, device: console.device, writer: console.writer };
    c.out.good(&out, false);
    c.out.flush_with(&mut c.channel, &[console.pty]).await?;
    Ok(())
}

/// The connection becomes a console: from then on it is the controller's.
pub async fn attach(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = AttachConsoleIn::from_value(call.parameters)?;
    if !call.upgrade {
        return Err(ServiceError::InvalidParameter("upgrade".into()).into());
    }
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    c.engine.running(&snapshot)?;
    check_size([("columns", p.columns), ("rows", p.rows)])?;
    let (_, device) = c.engine.console(&snapshot, p.device.as_deref())?;
    c.out.flush(&mut c.channel).await?;
    let early = c.channel.take_rest();
    let parameters = controller::AttachConsoleIn {
        greeting: Some(greeting(&device)),
        device: Some(device),
        mode: mode(p.mode),
        columns: p.columns,
        rows: p.rows,
        skip_replay: p.skip_replay.unwrap_or(false),
        file_descriptor: 0,
        early: if early.is_empty() { None } else { Some(STANDARD.encode(&early)) },
    };
    let socket = Layout::socket_name(snapshot.uuid);
    let method = controller::Method::AttachConsole;
    let answer = c.engine.sockets.call(&socket, method, &parameters, &[c.channel.socket()]).await;
    match answer {
        Ok((controller::AttachConsoleOut { .. }, _)) => {
            c.handed_over = true;
            Ok(())
        }
        Err(e) => {
            c.channel.put_back(&early);
            Err(from_controller(&snapshot, e).into())
        }
    }
}

/// The daemon's reply to the client, for the controller to complete and to send before anything else.
fn greeting(device: &str) -> String {
    let device = serde_json::Value::from(device);
    format!(r#"{{"parameters":{{"device":{device},"writer":@WRITER@,"viewer":@VIEWER@}}}}"#)
}

/// A window size.
pub async fn resize(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = ResizeConsoleIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    c.engine.running(&snapshot)?;
    check_size([("columns", Some(p.columns)), ("rows", Some(p.rows))])?;
    let (_, device) = c.engine.console(&snapshot, p.device.as_deref())?;
    let parameters = controller::ResizeConsoleIn {
        device: Some(device),
        viewer: p.viewer,
        columns: p.columns,
        rows: p.rows,
    };
    let socket = Layout::socket_name(snapshot.uuid);
    let method = controller::Method::ResizeConsole;
    let answer = c.engine.sockets.call(&socket, method, &parameters, &[]).await;
    let (controller::ResizeConsoleOut {}, _) = answer.map_err(|e| from_controller(&snapshot, e))?;
    c.out.good(&ResizeConsoleOut {}, false);
    Ok(())
}

/// What a console printed, piece by piece.
pub async fn read_log(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = ReadConsoleLogIn::from_value(call.parameters)?;
    if !call.more {
        return Err(ServiceError::ExpectedMore.into());
    }
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let (number, _) = c.engine.console(&snapshot, p.device.as_deref())?;
    for path in c.engine.console_logs(&snapshot, number) {
        let mut offset = 0;
        loop {
            let piece = {
                let path = path.clone();
                blocking(move || Ok(read_piece(path, offset))).await?
            };
            let piece = piece.map_err(Failure::Failed)?;
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            c.out.good(&ReadConsoleLogOut { data: STANDARD.encode(&piece) }, true);
            c.out.flush_if_much(&mut c.channel).await?;
        }
    }
    c.out.good(&ReadConsoleLogOut { data: String::new() }, false);
    Ok(())
}

fn read_piece(path: PathBuf, offset: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let Some(mut file) = open_log(&path)? else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(offset))?;
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece)?;
        Ok(piece)
    };
    read().map_err(|e: std::io::Error| format!("cannot read '{}': {e}", path.display()))
}
