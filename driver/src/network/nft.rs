//! Runs `nft` with one transaction, or to see what is there.
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
    run(&["-j", "-f", "-"], &transaction.to_string()).await.map(drop)
}

/// What is in a table now, without what tells one making of it from another; none if there is no such table.
pub async fn table(family: &str, name: &str) -> Result<Option<Value>, String> {
    let text = match run(&["-j", "list", "table", family, name], "").await {
        Err(e) if e.contains("No such file or directory") => return Ok(None),
        done => done?,
    };
    let mut value: Value =
        serde_json::from_str(&text).map_err(|e| format!("what nft lists is not readable: {e}"))?;
    for object in value.get_mut("nftables").and_then(Value::as_array_mut).into_iter().flatten() {
        for inner in object.as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
            if let Some(inner) = inner.as_object_mut() {
                inner.remove("handle");
            }
        }
    }
    Ok(Some(value))
}

async fn run(arguments: &[&str], input: &str) -> Result<String, String> {
    let program = find_program("nft")
        .ok_or("rules of a network need the program 'nft', which is not installed (package nftables)")?;
    let work = async {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it does not say why");
            Err(format!("nft refused the rules: {}", line.trim()))
        }
        Ok(Err(e)) => Err(format!("cannot run 'nft': {e}")),
        Err(_) => Err("nft did not come back in time".into()),
    }
}
