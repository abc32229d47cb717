//! Man pages from the small Markdown that their sources under `docs/man` are written in: headings, paragraphs,
//! lists, indented code, **bold**, *italic* and `code`. Anything else is printed as it is.

use roff::{Inline, Roff, bold, italic, roman};

/// The roff text of a page named like `berthd.8`.
pub fn render(page: &str, text: &str) -> Result<String, String> {
    let (name, section) = page.rsplit_once('.').ok_or_else(|| format!("error: '{page}' has no section"))?;
    let mut out = Roff::new();
    out.control(
        "TH",
        [name.to_uppercase().as_str(), section, "", concat!("berth ", env!("CARGO_PKG_VERSION")), "Berth"],
    );
    // A line with one long word, such as an element of a document, cannot be stretched to the margin, and troff warns of it.
    out.control("ad", ["l"]);
    let mut paragraph: Vec<&str> = Vec::new();
    let mut item = false;
    for line in text.lines().chain([""]) {
        let heading = line.starts_with('#');
        let code = line.starts_with("    ") && paragraph.is_empty();
        let list = line.trim_start().strip_prefix("- ");
        if line.trim().is_empty() || heading || code || list.is_some() {
            flush(&mut out, &mut paragraph, &mut item);
        }
        match (list, line) {
            (Some(rest), _) if !code => {
                item = true;
                paragraph.push(rest);
            }
            (_, l) if heading => title(&mut out, l),
            (_, l) if code => {
                out.control("nf", []).control("RS", ["4"]);
                out.text([roman(&l[4..])]);
                out.control("RE", []).control("fi", []);
            }
            (_, l) if l.trim().is_empty() => {}
            (_, l) => paragraph.push(l.trim()),
        }
    }
    // Consecutive lines of code are one block.
    Ok(out.render().replace(".RE\n.fi\n.nf\n.RS 4\n", ""))
}

fn title(out: &mut Roff, line: &str) {
    let text = line.trim_start_matches('#').trim();
    match line.chars().take_while(|c| *c == '#').count() {
        1 | 2 if text.chars().any(char::is_lowercase) && line.starts_with("##") => out.control("SS", [text]),
        1 | 2 => out.control("SH", [text]),
        _ => out.control("SS", [text]),
    };
}

fn flush(out: &mut Roff, paragraph: &mut Vec<&str>, item: &mut bool) {
    if !paragraph.is_empty() {
        if *item {
            out.control("IP", ["\\(bu", "3"]);
        } else {
            out.control("PP", []);
        }
        out.text(inline(&paragraph.join(" ")));
    }
    paragraph.clear();
    *item = false;
}

/// Bold for `**x**` and `` `x` ``, italic for `*x*`.
fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['*', '`']) {
        let (mark, plain): (&str, bool) = if rest[at..].starts_with("**") {
            ("**", false)
        } else if rest[at..].starts_with('*') {
            ("*", false)
        } else {
            ("`", true)
        };
        let after = &rest[at + mark.len()..];
        let Some(end) = after.find(mark).filter(|end| *end > 0 && (plain || !after.starts_with(' '))) else {
            parts.push(roman(&rest[..at + mark.len()]));
            rest = after;
            continue;
        };
        parts.push(roman(&rest[..at]));
        parts.push(if mark == "*" { italic(&after[..end]) } else { bold(&after[..end]) });
        rest = &after[end + mark.len()..];
    }
    parts.push(roman(rest));
    parts
}

#[cfg(test)]
mod test {
    use super::render;

    #[test]
    fn markdown_becomes_roff() {
        let text =
            "# NAME\n\nx - *a* **b** `c`\n\n## A Part\n\n- one\n  more\n- two\n\n    code 1\n    code 2\n";
        let page = render("x.1", text).unwrap_or_default();
        assert!(page.contains(".TH X 1"), "{page}");
        assert!(page.contains(".SH NAME"), "{page}");
        assert!(page.contains("\n.ad l\n"), "{page}");
        assert!(page.contains(".SS \"A Part\""), "{page}");
        assert!(page.contains("\\fIa\\fR \\fBb\\fR \\fBc\\fR"), "{page}");
        assert!(page.contains("one more\n"), "{page}");
        assert!(page.contains("code 1\ncode 2\n"), "{page}");
        assert!(render("nosection", "").is_err());
    }
}
