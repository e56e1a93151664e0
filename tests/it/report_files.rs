//! `metrics.csv` and TensorBoard's event files, read back by independent readers.

use std::collections::HashMap;

use polyview::report::csv::metrics_csv;
use polyview::report::matrix_picture::matrix_picture;
use polyview::report::scalars::scalars;
use polyview::report::tensorboard::{EventWriter, epoch_summary};
use polyview::schema::Schema;

use crate::common::report;

/// Returns the rows of a table as maps from column to field.
fn rows(table: &str) -> Vec<HashMap<String, String>> {
    let mut lines = table.lines().map(|line| line.split(',').map(str::to_owned));
    let header: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|line| {
            let fields: Vec<String> = line.collect();
            assert_eq!(fields.len(), header.len());
            header.iter().cloned().zip(fields).collect()
        })
        .collect()
}

#[test]
fn one_row_per_epoch() {
    let mut history = report::history(18);
    history[4].valid.loss = f64::NAN;
    history[5].valid.loss = f64::INFINITY;
    history[6].train.gradient_norm = None;
    let table = metrics_csv(&history).unwrap();
    assert!(
        table.starts_with("epoch,phase,trainable,best,score/valid,loss/train,loss/"),
        "{table}"
    );
    let rows = rows(&table);
    assert_eq!(rows.len(), 18);
    for (row, record) in rows.iter().zip(&history) {
        assert_eq!(row["epoch"], record.epoch.to_string());
        assert_eq!(row["best"], if record.best { "1" } else { "0" });
        assert_eq!(row["trainable"], record.trainable.join("+"));
        for (name, value) in scalars(record) {
            let value = value.unwrap();
            let read: f64 = row[&name].parse().unwrap();
            assert!(read == value || read.is_nan() && value.is_nan(), "{name}");
        }
    }
    // An epoch without an update has no norm, a frozen group no rate.
    assert_eq!(
        (rows[5]["gradient_norm/train"].as_str(), &*rows[6]["gradient_norm/train"]),
        ("2", "")
    );
    assert_eq!(rows[7]["learning_rate/layer4"], "");
    assert_eq!(rows[8]["learning_rate/layer1"], "");
    assert_eq!(rows[16]["learning_rate/layer1"], history[16].rates["layer1"].to_string());
    assert_eq!((rows[4]["loss/valid"].as_str(), rows[5]["loss/valid"].as_str()), ("NaN", "inf"));
}

#[test]
fn tables_without_epochs_and_with_odd_names() {
    assert_eq!(metrics_csv(&[]).unwrap(), "epoch,phase,trainable,best\n");
    let mut history = report::history(1);
    history[0].rates.insert("a \"b\",c".to_owned(), 0.5);
    let table = metrics_csv(&history).unwrap();
    assert!(table.contains(r#""learning_rate/a ""b"",c""#), "{table}");
    assert_eq!(table.lines().count(), 2);
}

/// Value of a field in a protocol buffer message.
#[derive(Debug, Clone, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Varint(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        bytes = rest;
        let field = if key & 7 == 2 { Field::Bytes(value) } else { Field::Fixed(value) };
        fields.push((key >> 3, field));
    }
    fields
}

fn field<'a>(message: &[(u64, Field<'a>)], number: u64) -> Option<Field<'a>> {
    message.iter().find(|(n, _)| *n == number).map(|(_, field)| field.clone())
}

fn bytes<'a>(message: &[(u64, Field<'a>)], number: u64) -> Option<&'a [u8]> {
    match field(message, number)? {
        Field::Bytes(bytes) => Some(bytes),
        other => panic!("{other:?}"),
    }
}

/// Returns the events of a file; another test covers the checksums.
fn events(mut file: &[u8]) -> Vec<Vec<(u64, Field<'_>)>> {
    let mut events = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        events.push(fields(&file[12..12 + length]));
        file = &file[12 + length + 4..];
    }
    events
}

#[test]
fn events_hold_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tensorboard");
    let schema = Schema::mvfoul().unwrap();
    let mut history = report::history(10);
    history[2].train.loss = f64::NAN;
    let mut writer = EventWriter::create(&folder, None).unwrap();
    for record in &history {
        writer.write(record.epoch, &epoch_summary(record, &schema).unwrap()).unwrap();
    }
    // The file is complete without closing, since a running TensorBoard reads it.
    let file = std::fs::read(writer.path()).unwrap();
    let events = events(&file);
    assert_eq!(events.len(), 11);
    assert_eq!(bytes(&events[0], 3), Some(&b"brain.Event:2"[..]));
    for (event, record) in events[1..].iter().zip(&history) {
        assert!(matches!(field(event, 1), Some(Field::Fixed(time)) if time.len() == 8));
        assert_eq!(field(event, 2), Some(Field::Varint(record.epoch as u64)));
        let summary = fields(bytes(event, 5).unwrap());
        let mut values = HashMap::new();
        let mut pictures = HashMap::new();
        for (_, value) in &summary {
            let Field::Bytes(value) = value else { panic!("{value:?}") };
            let value = fields(value);
            let tag = String::from_utf8(bytes(&value, 1).unwrap().to_vec()).unwrap();
            if let Some(Field::Fixed(number)) = field(&value, 2) {
                values.insert(tag, f32::from_le_bytes(number.try_into().unwrap()));
            } else {
                pictures.insert(tag, fields(bytes(&value, 4).unwrap()));
            }
        }
        let figures = scalars(record);
        assert_eq!(values.len(), figures.len());
        for (tag, value) in figures {
            let (read, value) = (values[&tag], value.unwrap());
            assert!(read == value as f32 || read.is_nan() && value.is_nan(), "{tag}");
        }
        assert_eq!(pictures.len(), 2);
        let picture = &pictures["confusion/action_class"];
        let png = image::load_from_memory(bytes(picture, 4).unwrap()).unwrap();
        assert_eq!(field(picture, 1), Some(Field::Varint(png.height().into())));
        assert_eq!(field(picture, 2), Some(Field::Varint(png.width().into())));
    }
}

#[test]
fn a_task_without_labels_has_no_values() {
    let mut history = report::history(2);
    for record in &mut history {
        record.valid.tasks[1].confusion = vec![vec![0; 8]; 8];
    }
    let table = metrics_csv(&history).unwrap();
    let rows = rows(&table);
    for metric in ["loss", "accuracy", "balanced_accuracy", "f1_weighted", "f1_macro"] {
        assert_eq!(rows[1][&format!("{metric}/action_class/valid")], "");
        assert_ne!(rows[1][&format!("{metric}/action_class/train")], "");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path(), None).unwrap();
    let summary = epoch_summary(&history[0], &Schema::mvfoul().unwrap()).unwrap();
    writer.write(1, &summary).unwrap();
    let file = std::fs::read(writer.path()).unwrap();
    let has = |tag: &str| file.windows(tag.len()).any(|part| part == tag.as_bytes());
    assert!(has("accuracy/action_class/train") && !has("accuracy/action_class/valid"));
}

#[test]
fn a_resumed_run_records_where_it_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let first = EventWriter::create(dir.path(), None).unwrap();
    let second = EventWriter::create(dir.path(), Some(5)).unwrap();
    assert_ne!(first.path(), second.path());
    let file = std::fs::read(second.path()).unwrap();
    let events = events(&file);
    assert_eq!(events.len(), 2);
    assert_eq!(field(&events[1], 2), Some(Field::Varint(5)));
    assert_eq!(bytes(&events[1], 7), Some(&[8, 1][..]));

    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = EventWriter::create(&blocked, None).unwrap_err().to_string();
    assert!(error.contains("file: TensorBoard events cannot be written"), "{error}");
}

#[test]
fn a_matrix_as_a_picture() {
    let names = ["Tackling".to_owned(), "Élan".to_owned()];
    let rows = [vec![9, 1], vec![0, 0]];
    let picture = matrix_picture("Action", &names, &rows);
    assert!(picture.width() > 300 && picture.height() == 2 * 44 + 12 + 62);
    // One cell is nearly all blue, its neighbour has a tenth of orange.
    let blue = picture.pixels().filter(|p| p.0[2] > 180 && p.0[0] < 80).count();
    assert!(blue > 1000, "{blue}");
    // Counts are white where that stands out, as on full blue, and black on orange.
    let white = |rows: &[Vec<u64>]| {
        let picture = matrix_picture("Action", &names, rows);
        picture.pixels().filter(|pixel| pixel.0 == [255; 3]).count()
    };
    assert!(white(&[vec![10, 0], vec![0, 10]]) > 10);
    assert_eq!(white(&[vec![1, 9], vec![9, 1]]), 0);
    // Without any class, the picture shows only the title.
    assert!(matrix_picture("Nothing", &[], &[]).width() > 100);
}
