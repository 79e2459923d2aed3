//! What a run records brings every member back, effect by effect, also from a file.

use tierce_sim::plan::{Setting, draw};
use tierce_sim::seed::run_with_events;
use tierce_ticket::replay::{Event, Stage};

#[test]
fn members_live_through_a_recording_again_as_they_did() {
    for seed in [1, 3, 6] {
        let plan = draw(seed, &Setting::of(seed), 40);
        let (result, events) = run_with_events(seed, &plan);
        assert!(result.is_ok(), "{result:?}");
        assert!(events.len() > 1_000, "{} events", events.len());
        let mut stage = Stage::default();
        for (n, event) in events.iter().enumerate() {
            let line = serde_json::to_string(event).expect("every event can be written");
            let read: Event = serde_json::from_str(&line).expect("and read");
            assert_eq!(read, *event);
            let played = stage.play(&read).expect("it can be played");
            assert!(played.as_recorded, "seed {seed}, event {n}: {line}\n{:?}", played.effects);
        }
        assert!(stage.members().count() > 2);
    }
}
