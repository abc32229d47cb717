//! Figures and how they are shown.

use std::time::{Duration, Instant};

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Our figure.
    pub ours: f64,
    /// The peer's figure, if there is one.
    pub peer: Option<f64>,
    /// Who the peer is.
    pub name: String,
    /// Unit of both.
    pub unit: &'static str,
    /// The budget in words.
    pub budget: String,
    /// Whether it is met; `None` where it cannot be told.
    pub met: Option<bool>,
}

impl Row {
    /// Times in seconds beside a peer's; at most `ratio` of them is allowed.
    pub fn against(what: &str, name: &str, ours: &[f64], peer: &[f64], ratio: f64) -> Self {
        let ours = median(ours) * 1000.0;
        let peer = (!peer.is_empty()).then(|| median(peer) * 1000.0);
        Self {
            what: what.into(),
            ours,
            peer,
            name: name.into(),
            unit: "ms",
            budget: format!("<= {ratio} x"),
            met: peer.map(|p| ours <= ratio * p),
        }
    }

    /// A figure with a limit of its own.
    pub fn figure(what: &str, ours: f64, unit: &'static str, limit: f64) -> Self {
        Self {
            what: what.into(),
            ours,
            peer: None,
            name: String::new(),
            unit,
            budget: format!("<= {limit}"),
            met: Some(ours <= limit),
        }
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How long something takes, in seconds.
pub fn time(work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The same after a pause, as between the commands of a person: right behind another move between control groups or
/// unmount, the kernel has its grace periods running already, and whoever comes second does not wait for them.
pub fn apart(work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    std::thread::sleep(Duration::from_millis(100));
    time(work)
}

/// The table.
pub fn print(rows: &[Row]) {
    println!("{:<44} {:>12} {:>24} {:>8} {:>10}  met", "what", "berth", "peer", "ratio", "budget");
    for row in rows {
        let ours = format!("{:.2} {}", row.ours, row.unit);
        let peer = match row.peer {
            Some(peer) => format!("{} {peer:.2} {}", row.name, row.unit),
            None if row.name.is_empty() => "-".into(),
            None => format!("{} not installed", row.name),
        };
        let ratio = row.peer.map_or_else(|| "-".into(), |p| format!("{:.2}", row.ours / p));
        let met = row.met.map_or("?", |m| if m { "yes" } else { "NO" });
        println!("{:<44} {ours:>12} {peer:>24} {ratio:>8} {:>10}  {met}", row.what, row.budget);
    }
}

/// The same for programs.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|r| {
            serde_json::json!({ "what": r.what, "berth": r.ours, "peer": r.peer, "peerName": r.name, "unit": r.unit,
                "budget": r.budget, "met": r.met })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}
