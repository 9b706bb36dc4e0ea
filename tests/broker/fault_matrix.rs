//! Each fault that Salesforce can make, while an object is loaded, polled, subscribed to: what becomes of it.
//!
//! In: the rows of `rows.rs`. Out: one table on stdout, and a failure if any cell is otherwise than its row says. A cell has
//! recovered when the object went on by itself and its topic equals the org, every change once; it has stopped when the
//! object, or the program, says so with the fault's code and advice, and a run after the fault completes the same.

mod cell;
mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use cell::{Column, try_out};
use rows::{Outcome, Row};

/// Pipelines that run at once, beside those that mostly wait.
const AT_ONCE: usize = 7;

const COLUMNS: [Column; 4] = [Column::LoadRest, Column::LoadBulk, Column::Poll, Column::Subscribe];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_ends_as_the_table_says_and_loses_nothing() {
    sf2kafka::salesforce::install_tls();
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let rows: Vec<Arc<Row>> = rows::all().into_iter().map(Arc::new).collect();
    let mut tasks = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let columns: Vec<Column> =
            COLUMNS.into_iter().filter(|column| row.outcome(*column).is_some()).collect();
        // A program that stops stops all columns: each has one of its own then.
        let groups: Vec<Vec<Column>> =
            if row.apart { columns.iter().map(|column| vec![*column]).collect() } else { vec![columns] };
        for group in groups {
            let (row, places) = (row.clone(), places.clone());
            let task = tokio::spawn(async move {
                let _place = match row.waits {
                    true => None,
                    false => Some(places.acquire_owned().await.unwrap()),
                };
                try_out(&row, &group).await
            });
            tasks.push((number, task));
        }
    }
    let mut found: Vec<[Option<String>; 4]> = rows.iter().map(|_| Default::default()).collect();
    let mut wrong = Vec::new();
    for (number, task) in tasks {
        let row = &rows[number];
        for (column, had) in task.await.unwrap_or_else(|error| panic!("{}: {error}", row.fault)) {
            let wanted = row.outcome(column).unwrap();
            let place = COLUMNS.iter().position(|known| *known == column).unwrap();
            found[number][place] = Some(match &had {
                Ok(outcome) => outcome.to_string(),
                Err(_) => "WRONG".to_owned(),
            });
            match had {
                Ok(outcome) if outcome == wanted => {}
                Ok(outcome) => wrong.push(format!("{} × {column:?}: {outcome}, not {wanted}", row.fault)),
                Err(why) => wrong.push(format!("{} × {column:?}: {why}", row.fault)),
            }
        }
    }
    print(&rows, &found, began.elapsed());
    let cells = found.iter().flatten().flatten().count();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cells > 100, "a table of {cells} cells is not the whole");
}

#[expect(clippy::print_stdout, reason = "the table is what the test is for")]
fn print(rows: &[Arc<Row>], found: &[[Option<String>; 4]], took: Duration) {
    let heads = ["fault", "load by REST", "load by Bulk", "poll", "subscribe"];
    let mut table = vec![heads.map(str::to_owned)];
    for (row, cells) in rows.iter().zip(found) {
        let cell = |place: usize| cells[place].clone().unwrap_or_else(|| "–".to_owned());
        table.push([row.fault.to_owned(), cell(0), cell(1), cell(2), cell(3)]);
    }
    let width = |place: usize| table.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for line in &table {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
    }
    println!("{} cells in {} s", found.iter().flatten().flatten().count(), took.as_secs());
}

/// What a cell is named by in the table.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Recovered => "recovered".to_owned(),
            Self::ObjectStopped(code) => format!("object stopped: {code}"),
            Self::ProgramStopped(code) => format!("program stopped: {code}"),
        };
        f.pad(&text)
    }
}
