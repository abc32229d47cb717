//! The program: see the library of the same name, which is one so that its readers can be tried alone.

fn main() {
    std::process::exit(berth_view::main());
}
