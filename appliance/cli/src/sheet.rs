//! Blocks of a report, shown on a terminal or as one page of HTML that prints. Names and texts in them
//! may be anybody's: on the terminal nothing steers it, and on the page nothing is markup.

use std::io::Write;

use cloister_domain::in_line;

use crate::{Failure, say};

/// A title with rows below it.
#[derive(Debug)]
pub(crate) struct Block {
    /// What it is about.
    pub(crate) title: String,
    /// What stands over its columns; none for pairs of a name and a value.
    pub(crate) heads: Vec<&'static str>,
    /// Its rows; each as wide as the heads.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Block {
    pub(crate) fn new(title: impl Into<String>, heads: &[&'static str]) -> Self {
        Self { title: title.into(), heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(str::to_owned).into());
    }
}

/// Shows blocks on a terminal, their columns below each other; those without rows are left out.
pub(crate) fn show(blocks: &[Block], out: &mut dyn Write) -> Result<(), Failure> {
    for block in blocks.iter().filter(|block| !block.rows.is_empty()) {
        say!(out, "{}", in_line(&block.title));
        let rows: Vec<Vec<String>> =
            block.rows.iter().map(|row| row.iter().map(|cell| in_line(cell)).collect()).collect();
        let heads: Vec<String> = block.heads.iter().map(|head| (*head).to_owned()).collect();
        let lines = (!heads.is_empty()).then_some(&heads).into_iter().chain(&rows);
        let mut widths: Vec<usize> = Vec::new();
        for line in lines.clone() {
            for (column, cell) in line.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = (*widest).max(width),
                    None => widths.push(width),
                }
            }
        }
        for line in lines {
            let cells = line.iter().zip(&widths);
            let text: String = cells.map(|(cell, &width)| format!("  {cell:<width$}")).collect();
            say!(out, "{}", text.trim_end());
        }
    }
    Ok(())
}

/// How the page looks: A4, black on white, nothing from elsewhere.
const STYLE: &str = "\
@page{size:A4;margin:15mm}\
body{font:10pt/1.35 sans-serif;color:#000;background:#fff;max-width:180mm;margin:auto}\
h1{font-size:15pt}h2{font-size:11pt;margin:5mm 0 1mm;break-after:avoid}\
table{border-collapse:collapse;width:100%}tr{break-inside:avoid}thead{display:table-header-group}\
th,td{border:.2mm solid #888;padding:.8mm 1.5mm;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
td:first-child:empty{height:9mm}th{background:#eee}";

/// One page of HTML with every block: no script, nothing that is loaded, and every text escaped. What a
/// reader might still take for active content the page itself forbids (Content Security Policy, level 3).
pub(crate) fn page(title: &str, blocks: &[Block]) -> String {
    let title = escaped(title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    for block in blocks.iter().filter(|block| !block.rows.is_empty()) {
        text.push_str(&format!("<h2>{}</h2>\n<table>", escaped(&block.title)));
        if !block.heads.is_empty() {
            let heads = block.heads.iter().map(|head| format!("<th>{}</th>", escaped(head)));
            text.push_str(&format!("<thead><tr>{}</tr></thead>", heads.collect::<String>()));
        }
        text.push_str("<tbody>\n");
        for row in &block.rows {
            let cells = row.iter().map(|cell| format!("<td>{}</td>", escaped(cell)));
            text.push_str(&format!("<tr>{}</tr>\n", cells.collect::<String>()));
        }
        text.push_str("</tbody></table>\n");
    }
    text.push_str("</body></html>\n");
    text
}

/// Text between tags: what steers or hides stands there as an escape, and nothing is markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in in_line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            plain => safe.push(plain),
        }
    }
    safe
}
