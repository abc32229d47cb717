//! Entries as journald reads them from its socket, and that socket.
//!
//! An entry is a list of fields; each is its name, a new line, the length of its value in eight bytes, the value, and a new
//! line. So no value makes a field of its own. One too big for a datagram is a sealed file in memory whose descriptor is
//! sent. Source: systemd's "Native Journal Protocol".

use std::fmt::{Debug, Write};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, sendto, socket_with,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::queue::{Outlet, Queue, Taken};
use super::{PRIORITY, share};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How much of a field's name journald takes.
const LONGEST_NAME: usize = 64;

/// The socket.
#[derive(Debug)]
pub struct Socket {
    ours: OwnedFd,
    theirs: SocketAddrUnix,
}

impl Socket {
    /// To whoever listens there, if somebody does.
    pub fn to(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let ours = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let socket = Self { ours, theirs: SocketAddrUnix::new(path)? };
        // It makes nothing of an empty one.
        match socket.send(&[], SendFlags::DONTWAIT) {
            Ok(()) | Err(Errno::AGAIN) => Ok(socket),
            Err(e) => Err(e.into()),
        }
    }

    fn send(&self, entry: &[u8], flags: SendFlags) -> Result<(), Errno> {
        let flags = flags | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| sendto(&self.ours, entry, flags, &self.theirs)) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_file(entry, flags),
            sent => sent.map(drop),
        }
    }

    fn send_file(&self, entry: &[u8], flags: SendFlags) -> Result<(), Errno> {
        let file = memfd_create("berthd-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = entry;
        while !rest.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let empty = [IoSlice::new(&[])];
        rustix::io::retry_on_intr(|| sendmsg_addr(&self.ours, &self.theirs, &empty, &mut control, flags))
            .map(drop)
    }
}

impl Outlet for Socket {
    fn at_once(&self, entry: &[u8]) -> Taken {
        match self.send(entry, SendFlags::DONTWAIT) {
            Ok(()) => Taken::Yes,
            Err(Errno::AGAIN) => Taken::Later,
            Err(_) => Taken::No,
        }
    }

    fn wait(&self, entry: &[u8]) -> io::Result<()> {
        Ok(self.send(entry, SendFlags::empty())?)
    }
}

/// The fields of an entry.
#[derive(Debug, Default)]
struct Fields {
    bytes: Vec<u8>,
    /// What the entry says of itself, in place of what its level says.
    priority: Option<u64>,
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    /// One that somebody gave to an entry or a span.
    fn put_ours(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.put("MESSAGE", value);
        }
        let ours = field
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        let name: String = "BERTH_".chars().chain(ours).take(LONGEST_NAME).collect();
        self.put(&name, value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_ours(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == PRIORITY {
            self.priority = Some(value);
        } else {
            self.put_ours(field, &value.to_string());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // What cannot be told is told as far as it can be.
        let _ = write!(text, "{value:?}");
        self.put_ours(field, &text);
    }
}

/// What a level is in the journal, see syslog(3).
fn priority(level: Level) -> u64 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// An entry with nothing but a message, which is an error.
pub fn plain(message: &str) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("MESSAGE", message);
    finished(fields, Level::ERROR)
}

fn finished(mut fields: Fields, level: Level) -> Vec<u8> {
    let number = fields.priority.unwrap_or_else(|| priority(level));
    fields.put("PRIORITY", &number.to_string());
    fields.put("SYSLOG_IDENTIFIER", "berthd");
    fields.bytes
}

/// What a span gives to all entries within it.
struct Given(Vec<u8>);

/// Makes entries.
#[derive(Debug)]
pub struct Entries(pub Arc<Queue>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Entries {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Given(fields.bytes));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(given) = span.extensions_mut().get_mut::<Given>()
        {
            given.0.append(&mut fields.bytes);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in
            context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(given) = span.extensions().get::<Given>() {
                fields.bytes.extend_from_slice(&given.0);
            }
        }
        event.record(&mut fields);
        let meta = event.metadata();
        fields.put("TARGET", meta.target());
        if let Some(file) = meta.file() {
            fields.put("CODE_FILE", file);
        }
        if let Some(line) = meta.line() {
            fields.put("CODE_LINE", &line.to_string());
        }
        self.0.push(share(meta), finished(fields, *meta.level()));
    }
}
