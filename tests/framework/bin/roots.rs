//! Makes the Debian roots that the tests boot, if they are not there yet, and prints where they are, one a line: for
//! who takes them to another machine.

use berth_tests::roots;

fn main() -> std::process::ExitCode {
    for suite in std::env::args().skip(1) {
        match roots::debian(&suite) {
            Ok(root) => println!("{}", root.display()),
            Err(error) => {
                eprintln!("error: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
