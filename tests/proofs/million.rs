//! A full load at its size: a million rows, once each, in memory that does not grow with them.

use std::time::{Duration, Instant};

use simulator::org::OrgConfig;

use crate::stage::Stage;

/// Fields of Account that a load publishes, the id among them.
const FIELDS: usize = 50;

/// Loads so many accounts of fifty fields; the stage, and peak memory in MB.
async fn load(rows: u64) -> (Stage, u64) {
    let org = OrgConfig { deleted_one_in: 0, ..OrgConfig::default() }.with_rows("Account", rows);
    let catalog = simulator::org::Org::new(org.clone());
    let account = catalog.object("Account").unwrap();
    let plain = account.visible_fields().filter(|(_, field)| field.name != "Id");
    // What a load leaves out would not count.
    let plain =
        plain.filter(|(_, field)| !matches!(field.field_type.name(), "address" | "location" | "base64"));
    let names: Vec<&str> = plain.map(|(_, field)| field.name.as_str()).collect();
    let mut chosen: Vec<&str> = names.iter().copied().filter(|name| *name == "SystemModstamp").collect();
    chosen.extend(
        names.iter().copied().filter(|name| *name != "SystemModstamp").take(FIELDS - 1 - chosen.len()),
    );
    assert_eq!(chosen.len() + 1, FIELDS);
    let objects = format!("[ {{ name: Account, fields: {{ include: [ {} ] }} }} ]", chosen.join(", "));
    let stage = Stage::new(org, &objects, "capture: poll", "").await;
    let begun = Instant::now();
    let peak = stage.start(&["run", "--once"]).ends_well(Duration::from_secs(600)).await;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{rows} rows in {seconds:.1} s, {:.0} rows/s, peak {peak} MB", rows as f64 / seconds);

    (stage, peak)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_arrive_once_each_in_the_memory_of_a_tenth_of_them() {
    let (stage, mut tenth) = load(100_000).await;
    let report = stage.judge_exactly_once("Account", "Account").await;
    assert_eq!(report["operations"], serde_json::json!({ "R": 100_000 }), "{report:#}");
    assert!(report["truth"]["fields_compared"].as_u64().unwrap() >= FIELDS as u64, "{report:#}");

    // It takes seconds, and its peak is a matter of moments: the highest of three is what such a load takes.
    for _ in 0..2 {
        tenth = tenth.max(load(100_000).await.1);
    }
    let rows = 1_000_000;
    let (stage, whole) = load(rows).await;
    assert!(whole < 150, "{whole} MB");
    assert!(whole * 100 <= tenth * 120, "{whole} MB where a tenth of the rows took {tenth} MB");
    // Every record is decoded and counted by its id; to compare the contents of all would take the judge minutes.
    let report = stage.judge("Account", &["--ids-only"]).await;
    assert!(report["holds"] == true, "{report:#}");
    assert_eq!(report["operations"], serde_json::json!({ "R": rows }), "{report:#}");
    assert_eq!((&report["records"], &report["distinct_ids"]), (&rows.into(), &rows.into()), "{report:#}");
}
