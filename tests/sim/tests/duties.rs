//! The duties hold; that each can fail is shown by the planted bugs (`tests/run mutants`).

use tierce_sim::duties;

#[test]
fn every_duty_is_done() {
    for duty in duties::ALL {
        println!("{} ({})", duty.name, duty.rule);
        (duty.tell)();
    }
}
