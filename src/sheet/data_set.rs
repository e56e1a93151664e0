//! A contact sheet of a data set: what the window shows of some actions of each split.

use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::{Row, Section, draw};
use crate::data::DataSource;
use crate::data::annotations::{Action, Split};
use crate::data::clip::{ClipError, ClipInfo, made_upright};
use crate::data::resize::Resizer;
use crate::data::sampling::WindowSpec;
use crate::data::video::visit_frames;
use crate::schema::Schema;

/// Maximum number of actions per split, evenly spread over it.
const ACTIONS: usize = 6;
/// Maximum number of views per action.
const VIEWS: usize = 4;
/// Maximum number of frames per view, evenly spread over the window.
const COLUMNS: usize = 8;
/// Frames are scaled to fit in this width and height, pixels.
const BOX: [usize; 2] = [128, 96];
/// Maximum number of characters in a line of a caption.
const CAPTION: usize = 34;

/// Draws some usable actions of each split of a data set, a row per view. Splits whose annotations
/// cannot be read are left out, and unreadable views say why.
pub(crate) fn data_set_sheet(source: &DataSource, window: &WindowSpec) -> RgbImage {
    let (root, schema) = (source.root(), source.schema());
    let splits = source.own_splits().into_iter().filter_map(|(_, _, split)| split.ok());
    let splits: Vec<Split> = splits.collect();
    let drawn: Vec<(String, Vec<Row>)> =
        splits.iter().map(|split| rows(split, schema, window)).collect();
    let sections: Vec<Section<'_>> =
        drawn.iter().map(|(heading, rows)| Section { heading: Some(heading), rows }).collect();
    let title = format!("{} ({}): window {}", root.display(), schema.title, window.window);
    draw(&title, &sections)
}

/// One view to draw.
struct View<'a> {
    action: &'a Action,
    path: PathBuf,
    index: usize,
}

/// Returns a split's heading and rows.
fn rows(split: &Split, schema: &Schema, window: &WindowSpec) -> (String, Vec<Row>) {
    let total = split.actions.len();
    let chosen: Vec<&Action> =
        spread(total, ACTIONS).into_iter().map(|index| &split.actions[index]).collect();
    let view = |action: &'_ Action, index: usize| split.clip(&action.views[index]);
    let views: Vec<View<'_>> = chosen
        .iter()
        .flat_map(|&action| {
            let indices = 0..action.views.len().min(VIEWS);
            indices.map(move |index| View { action, path: view(action, index), index })
        })
        .collect();
    let rows = views.par_iter().map(|view| row(view, schema, window)).collect();
    let heading = format!("{}: {} of {total} usable actions", split.name, chosen.len());
    (heading, rows)
}

fn row(view: &View<'_>, schema: &Schema, window: &WindowSpec) -> Row {
    let View { action, path, index } = view;
    let mut lines =
        vec![format!("action {}, view {} of {}", action.id, index + 1, action.views.len())];
    for (task, label) in schema.tasks.iter().zip(action.labels.iter().flatten()) {
        lines.extend(label.map(|class| task.classes[class].name.clone()));
    }
    let frames = match read(path, window) {
        Ok((info, frames)) => {
            let fps = (info.fps * 100.0).round() / 100.0;
            lines
                .push(format!("{}×{}, {fps} fps, {} frames", info.width, info.height, info.frames));
            lines.extend(made_upright(info.rotation, info.mirrored));
            if let [width, height] = info.pixel_aspect
                && width != height
            {
                lines.push(format!("pixels {width}:{height}"));
            }
            frames
        }
        Err(error) => {
            lines.push(format!("unreadable: {}", error.kind()));
            Vec::new()
        }
    };
    let caption = lines.iter().map(|line| shortened(line)).collect::<Vec<_>>().join("\n");
    Row { caption, frames }
}

/// Reads some distinct frames of the window, scaled down.
fn read(path: &Path, window: &WindowSpec) -> Result<(ClipInfo, Vec<RgbImage>), ClipError> {
    let mut frames: Vec<(usize, RgbImage)> = Vec::new();
    let select = |info: &ClipInfo| {
        let mut indices = window.window_indices(info).indices;
        indices.dedup();
        spread(indices.len(), COLUMNS).into_iter().map(|k| indices[k]).collect()
    };
    let info = visit_frames(path, select, |frame| {
        let [height, width] = fitted(frame.height, frame.width);
        let mut small = vec![0; height * width * 3];
        let resized =
            Resizer::new(height, width).frame(frame.data, frame.height, frame.width, &mut small);
        let damaged = |reason| ClipError::Damaged { path: path.to_owned(), reason };
        resized.map_err(|error| damaged(error.to_string()))?;
        let image = RgbImage::from_raw(width as u32, height as u32, small)
            .expect("the buffer has the size of the image");
        for &position in frame.positions {
            frames.push((position, image.clone()));
        }
        Ok(())
    })?;
    // Frames come in the decoder's order, and a second time if ffmpeg takes over.
    frames.sort_by_key(|(position, _)| *position);
    frames.dedup_by_key(|(position, _)| *position);
    Ok((info, frames.into_iter().map(|(_, image)| image).collect()))
}

/// Returns `[H, W]` of a frame scaled to fit in [`BOX`] with its aspect ratio.
fn fitted(height: usize, width: usize) -> [usize; 2] {
    let [most_width, most_height] = BOX;
    let scale = (most_width as f64 / width as f64).min(most_height as f64 / height as f64);
    [height, width].map(|side| ((side as f64 * scale).round() as usize).max(1))
}

/// Returns up to `most` of the indices below `count`, evenly spaced, including the first and the last.
fn spread(count: usize, most: usize) -> Vec<usize> {
    let chosen = count.min(most);
    let gaps = chosen.saturating_sub(1).max(1);
    (0..chosen).map(|k| k * (count - 1) / gaps).collect()
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= CAPTION {
        return line.to_owned();
    }
    line.chars().take(CAPTION - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_spread_evenly() {
        assert_eq!(spread(0, 6), [0; 0]);
        assert_eq!(spread(1, 6), [0]);
        assert_eq!(spread(3, 6), [0, 1, 2]);
        assert_eq!(spread(11, 6), [0, 2, 4, 6, 8, 10]);
        assert_eq!(spread(2319, 6).last(), Some(&2318));
    }

    #[test]
    fn frames_fit_and_keep_their_shape() {
        assert_eq!(fitted(224, 398), [72, 128]);
        assert_eq!(fitted(398, 224), [96, 54]);
        assert_eq!(fitted(32, 32), [96, 96]);
        assert_eq!(fitted(16, 4096), [1, 128]);
    }
}
