//! The style: its colours can be told from their backgrounds, in light and in dark.

use std::collections::BTreeMap;

use axum::Router;
use webhook_axum::{Auth, router};

use super::{dispatcher, get};

/// What is read on the backgrounds, and so must stand out.
const TEXTS: [&str; 6] = ["text", "soft", "link", "good", "bad", "warn"];
/// What is only seen: the edges of what can be filled in.
const SHAPES: [&str; 1] = ["edge"];
const BACKGROUNDS: [&str; 2] = ["bg", "panel"];

type Colours = BTreeMap<String, [f64; 3]>;

/// The colours of each `:root` block, in the order of the text.
fn schemes(style: &str) -> Vec<Colours> {
    let blocks = style.split(":root {").skip(1);
    let colour = |line: &str| {
        let (name, hex) = line.trim().strip_prefix("--")?.split_once(": #")?;
        let part = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Some((name.to_owned(), [0, 2, 4].map(|at| f64::from(part(at)))))
    };
    blocks
        .map(|block| block.split('}').next().unwrap())
        .map(|block| block.lines().filter_map(colour).collect())
        .collect()
}

/// As WCAG 2.2 defines them.
fn luminance(colour: [f64; 3]) -> f64 {
    let [red, green, blue] = colour.map(|part| {
        let part = part / 255.0;
        if part <= 0.04045 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn contrast_is_known_for_black_on_white() {
    let (black, white) = ([0.0; 3], [255.0; 3]);
    assert!((contrast(black, white) - 21.0).abs() < 0.01);
}

#[tokio::test]
async fn texts_stand_out_in_light_and_in_dark() {
    let app: Router = router(dispatcher(), Auth::none());
    let style = get(&app, "/dashboard/dashboard.css").await.text;
    let schemes = schemes(&style);
    assert_eq!(schemes.len(), 2);
    for colours in schemes {
        for background in BACKGROUNDS {
            let wanted = TEXTS.map(|it| (it, 4.5)).into_iter();
            for (name, least) in wanted.chain(SHAPES.map(|it| (it, 3.0))) {
                let found = contrast(colours[name], colours[background]);
                assert!(found >= least, "{name} on {background}: {found:.2}");
            }
        }
    }
}
