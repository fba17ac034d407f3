//! The dashboard as people use it: in Chromium, by what stands on the screen and by the keyboard.
//!
//! chromedriver is in `WEBDRIVER_URL`: `cargo xtask browser` starts one. Elements are found by what they say, and by the
//! names of fields, so that a page may look otherwise tomorrow.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod app;
mod page;

mod access;
mod catalogue;
mod dead_letters;
mod deliveries;
mod endpoints;
mod hostile;
mod live;
mod reading;
mod screens;
mod screenshots;
mod without_script;
