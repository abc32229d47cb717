//! Runs `nft` with one transaction.
//!
//! Does not know what is in it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::host::process::find_program;

/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whether there is such a program.
pub fn is_here() -> bool {
    find_program("nft").is_some()
}

/// Applies a transaction: all of it or nothing.
pub async fn apply(transaction: &Value) -> Result<(), String> {
    let program = find_program("nft")
        .ok_or("rules of a network need the program 'nft', which is not installed (package nftables)")?;
    let run = async {
        let mut child = Command::new(program)
            .args(["-j", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(transaction.to_string().as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(DEADLINE, run).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it does not say why");
            Err(format!("nft refused the rules: {}", line.trim()))
        }
        Ok(Err(e)) => Err(format!("cannot run 'nft': {e}")),
        Err(_) => Err("nft did not come back in time".into()),
    }
}
