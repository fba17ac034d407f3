//! For everybody: by the keyboard alone, on a phone, in the dark.

use webhook_axum::Auth;

use crate::app::App;
use crate::page::{ENTER, Page, TAB, browse};
use crate::screens::{Screens, Words};

/// Presses Tab until the focus is where this expression of the page's says, and sees it on each step.
async fn tab_to(page: &Page, wanted: &str) {
    for _ in 0..60 {
        page.key(TAB).await;
        let shown = page
            .ask(
                "const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
                 const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
                 const inside = box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
                 return it.matches(':focus-visible') && (ring || style.boxShadow !== 'none') && inside ? '' : it.outerHTML",
            )
            .await;
        assert_eq!(shown, "", "the focus cannot be seen");
        let script = format!("const it = document.activeElement; return Boolean({wanted})");
        if page.ask(&script).await == true {
            return;
        }
    }
    panic!("no Tab leads to {wanted}");
}

#[tokio::test]
async fn an_endpoint_is_made_with_the_keyboard_alone() {
    let app = App::open().await;
    browse(async |page| {
        page.goto(&app.screen("")).await;
        tab_to(page, "it.textContent.trim() === 'Endpoints'").await;
        page.key(ENTER).await;
        tab_to(page, "it.textContent.trim() === 'New endpoint'").await;
        page.key(ENTER).await;
        tab_to(page, "it.name === 'url'").await;
        page.keys(&app.receiver.url("/in")).await;
        tab_to(page, "it.name === 'description'").await;
        page.keys("Typed").await;
        tab_to(page, "it.name === 'ordered'").await;
        page.key(' ').await;
        tab_to(page, "it.textContent.trim() === 'Create'").await;
        page.key(ENTER).await;
        page.see("whsec_").await;
        tab_to(page, "it.textContent.trim() === 'To the endpoint'").await;
        page.key(ENTER).await;
        page.see("Typed").await;
        // The screens' own keys, and that of the search.
        page.keys("gd").await;
        page.see("Whose failure").await;
        page.key('/').await;
        let focused = "return document.activeElement.closest('form') !== null";
        assert_eq!(page.ask(focused).await, true);
    })
    .await;
}

/// Long words where there may be some, and nothing else.
fn long() -> Words {
    let word = "Donaudampfschiff".repeat(20);
    Words {
        text: word.clone(),
        header: word.clone(),
        body: format!("{{\"why\":\"{word}\"}}").into_bytes(),
        path: format!("/{word}"),
    }
}

#[tokio::test]
async fn no_screen_is_wider_than_a_phone_nor_hard_to_read_in_light_or_dark() {
    let screens = Screens::of(&long(), Auth::none()).await;
    browse(async |page| {
        for path in screens.paths() {
            page.goto(&screens.app.screen(&path)).await;
            page.ask("for (const it of document.querySelectorAll('details')) it.open = true")
                .await;
            for scheme in ["light", "dark"] {
                page.prefer(scheme).await;
                let faint = page.ask(FAINT).await;
                assert_eq!(faint, serde_json::json!([]), "{path:?}, {scheme}");
                let is_dark = page.ask(IS_DARK).await;
                assert_eq!(is_dark, scheme == "dark", "{path:?}");
            }
            page.be_a_phone().await;
            let width = page.ask("return document.documentElement.scrollWidth");
            let width = width.await.as_u64().unwrap();
            assert!(
                width <= 390,
                "{path:?} is {width} wide: {}",
                page.ask(WIDE).await
            );
            page.devtools(
                "Emulation.clearDeviceMetricsOverride",
                serde_json::json!({}),
            )
            .await;
        }
    })
    .await;
}

/// What sticks out on the right, and is in nothing that scrolls.
const WIDE: &str = "return [...document.querySelectorAll('main *')]
    .filter(it => it.getBoundingClientRect().right > 391 && !it.closest('.scroll, pre'))
    .slice(0, 5).map(it => it.outerHTML.slice(0, 120))";

const IS_DARK: &str =
    "const light = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g);
    return light.slice(0, 3).every(it => it < 100)";

/// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = r"
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [r, g, b] = parts(colour).slice(0, 3)
            .map(it => it / 255)
            .map(it => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (it) => {
        for (; it; it = it.parentElement) {
            const colour = getComputedStyle(it).backgroundColor;
            const alpha = parts(colour)[3];
            if (alpha === undefined || alpha === 1) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const hasText = (it) => [...it.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    const faint = [];
    for (const it of document.querySelectorAll('body *')) {
        if (!hasText(it) || !it.checkVisibility() || it.closest('svg, option')) continue;
        const one = luminance(getComputedStyle(it).color), other = luminance(behind(it));
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) faint.push(contrast.toFixed(2) + ' ' + it.outerHTML.slice(0, 120));
    }
    return faint;
";
