//! The one place where visible state changes: snapshot, status record and events go out together, in order.
//!
//! Does not know who listens, nor why anything happened.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_schemas::domain::{EventKind, Exit, MetadataKind, PressureStats, Tunable};
use rustix::fs::OFlags;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::engine::record::{self, Record};
use crate::engine::registry::{Entry, Registry};
use crate::engine::snapshot::Snapshot;
use crate::engine::story::{Numbered, REMEMBERED, Story, Subscription};
use crate::paths::Layout;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// Counts up by one.
    pub sequence: i64,
    /// When, in microseconds of CLOCK_REALTIME.
    pub at_usec: i64,
    /// What.
    pub kind: EventKind,
    /// To whom.
    pub name: String,
    /// To whom.
    pub uuid: Uuid,
    /// More about it.
    pub detail: Option<String>,
    /// How init ended.
    pub exit: Option<Exit>,
    /// How many.
    pub count: Option<i64>,
    /// How much waiting there is.
    pub pressure: Option<PressureStats>,
    /// What has another value now.
    pub tunables: Vec<Tunable>,
    /// Which part of the metadata.
    pub metadata: Option<MetadataKind>,
}

impl Numbered for Happened {
    fn sequence(&self) -> i64 {
        self.sequence
    }
}

/// Something that is about to be told.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What.
    pub kind: EventKind,
    /// More about it.
    pub detail: Option<String>,
    /// How init ended.
    pub exit: Option<Exit>,
    /// How many.
    pub count: Option<i64>,
    /// How much waiting there is.
    pub pressure: Option<PressureStats>,
    /// What has another value now.
    pub tunables: Vec<Tunable>,
    /// Which part of the metadata is another now.
    pub metadata: Option<MetadataKind>,
}

impl Draft {
    /// Without an end of init.
    pub fn new(kind: EventKind, detail: &str) -> Self {
        Self { detail: Some(detail.to_owned()), ..Self::blank(kind) }
    }

    /// With nothing but a kind.
    pub fn blank(kind: EventKind) -> Self {
        Self {
            kind,
            detail: None,
            exit: None,
            count: None,
            pressure: None,
            tunables: Vec::new(),
            metadata: None,
        }
    }
}

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    layout: Layout,
    boot_id: String,
    began: i64,
    /// Where the number of the last event is kept.
    file: File,
    story: Story<Happened>,
    shown: broadcast::Sender<Uuid>,
}

/// CLOCK_REALTIME in microseconds.
pub fn now_usec() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Publisher {
    /// Goes on counting where the last daemon of this boot stopped.
    pub fn new(layout: &Layout, boot_id: String) -> io::Result<Self> {
        let path = layout.run().join("sequence");
        let sequence = read_sequence(&path, &boot_id);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let (shown, _) = broadcast::channel(REMEMBERED);
        let story = Story::after(sequence);
        Ok(Self { layout: layout.clone(), boot_id, began: sequence, file, story, shown })
    }

    /// This boot's name.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The last event before this daemon's first one.
    pub fn began(&self) -> i64 {
        self.began
    }

    /// Writes a record that no snapshot goes with: of a start that is under way.
    pub async fn note(&self, record: Record) -> io::Result<()> {
        let layout = self.layout.clone();
        blocking(move || record::write(&layout, &record)).await
    }

    /// Writes the record of a domain, or removes it where there is none.
    ///
    /// # Errors
    /// The next daemon would find the one before.
    pub async fn write(&self, uuid: Uuid, record: Option<Record>) -> io::Result<()> {
        let layout = self.layout.clone();
        blocking(move || match record {
            Some(record) => record::write(&layout, &record),
            None => record::remove(&layout.record(uuid)),
        })
        .await
    }

    /// Changes what everybody sees. Without a record the domain has none from now on.
    ///
    /// # Errors
    /// Those of [`write`](Self::write). Everybody sees it all the same.
    pub async fn publish(
        &self,
        registry: &Registry,
        entry: &Entry,
        snapshot: Snapshot,
        record: Option<Record>,
        drafts: Vec<Draft>,
    ) -> io::Result<()> {
        let written = self.write(entry.uuid, record).await;
        crate::killpoint::reached("published");
        registry.show(entry, Arc::new(snapshot));
        // Nobody watching is not an error.
        drop(self.shown.send(entry.uuid));
        for draft in drafts {
            self.emit(entry, draft);
        }
        written
    }

    fn emit(&self, entry: &Entry, draft: Draft) {
        self.story.tell(|sequence| {
            let line = format!("{sequence:020} {}\n", self.boot_id);
            if let Err(e) = self.file.write_all_at(line.as_bytes(), 0) {
                tracing::error!("cannot write the sequence number of events: {e}");
            }
            Happened {
                sequence,
                at_usec: now_usec(),
                kind: draft.kind,
                name: entry.name.to_string(),
                uuid: entry.uuid,
                detail: draft.detail,
                exit: draft.exit,
                count: draft.count,
                pressure: draft.pressure,
                tunables: draft.tunables,
                metadata: draft.metadata,
            }
        });
    }

    /// Whose snapshots change from now on, events or not.
    pub fn watch(&self) -> broadcast::Receiver<Uuid> {
        self.shown.subscribe()
    }

    /// Listens, from now on or from an earlier event on.
    pub fn subscribe(&self, since: Option<i64>) -> Subscription<Happened> {
        self.story.subscribe(since)
    }
}

fn read_sequence(path: &Path, boot_id: &str) -> i64 {
    let text = crate::files::read_text(path).unwrap_or_default();
    match text.trim().split_once(' ') {
        Some((number, boot)) if boot == boot_id => number.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Runs something that blocks on a thread for that.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(io::Error::other(e)),
    }
}
