use proptest::prelude::*;

use super::super::tests::{at, config, snapshot};
use super::super::{Grounds, Routing, Weight, weigh};
use super::*;

/// Load now and to come of each backend.
type Loads<'a> = &'a [Option<(f64, f64)>];

const IDLE: Option<(f64, f64)> = Some((30.0, 30.0));

/// A router with drains, told of the load of each backend every 15 s.
struct World {
    config: RerouteConfig,
    drains: Drains,
    routing: Routing,
    now: i64,
    facts: Snapshot,
}

impl World {
    fn of(backends: usize) -> Self {
        let facts = snapshot(at(0), &vec![IDLE; backends]);
        let (config, routing) = (config(backends), Routing::default());
        let mut drains = Drains::default();
        drains.advance(&facts, routing.weights(), &config, at(-60)); // it has long been in sight
        Self { config, drains, routing, now: 0, facts }
    }

    fn order(&mut self, backend: &str, lasts: u64, within: u64) -> Result<Drain, Refusal> {
        let order = Order {
            backend: backend.to_owned(),
            until: at(self.now) + Duration::from_secs(lasts),
            within: Some(Duration::from_secs(within)),
            by: "kim".to_owned(),
            reason: "new disk".to_owned(),
        };
        self.drains.order(order, &self.facts, &self.routing.weights, &self.config, at(self.now))
    }

    fn tick(&mut self, loads: Loads<'_>) -> Vec<Weight> {
        self.now += 15;
        self.facts = snapshot(at(self.now), loads);
        self.drains.advance(&self.facts, &self.routing.weights, &self.config, at(self.now));
        let (weights, next) = weigh(&self.facts, &self.routing, &self.drains, &self.config, at(self.now));
        self.routing = next;
        weights
    }

    /// The weights of `backend` over so many rounds, in percent.
    fn course(&mut self, backend: usize, loads: Loads<'_>, rounds: usize) -> Vec<i64> {
        (0..rounds).map(|_| (self.tick(loads)[backend].weight * 100.0).round() as i64).collect()
    }

    fn said(&self) -> Vec<&'static str> {
        let mut said: Vec<_> = self.drains.turns().map(Turn::word).collect();
        said.reverse();
        said
    }
}

#[test]
fn a_weight_goes_down_in_time_stays_at_nothing_and_comes_back_slowly_after_the_deadline() {
    let mut world = World::of(3);
    world.order("s0", 120, 60).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 4), [75, 50, 25, 0]);
    assert_eq!(world.tick(&[None, IDLE, IDLE])[0].grounds, Grounds::Draining, "whatever becomes of it meanwhile");
    assert_eq!(world.course(0, &[None, IDLE, IDLE], 2), [0, 0]);
    assert_eq!(world.course(0, &[None, IDLE, IDLE], 11), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]);
    assert_eq!(world.said(), ["started", "expired"]);
}

#[test]
fn at_once_is_as_fast_as_the_largest_cut_lets() {
    let mut world = World::of(2);
    world.order("s0", 300, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 2], 3), [40, 0, 0], "0.3 of the weight of both in a step");
}

#[test]
fn one_that_is_needed_is_not_drained_and_the_numbers_are_told() {
    let mut world = World::of(3);
    world.config.survivors = 2;
    world.order("s0", 300, 0).expect("two are left");
    world.tick(&[IDLE; 3]);
    let refused = world.order("s1", 300, 0).expect_err("one would be left");
    assert_eq!(
        refused.to_string(),
        "\"s1\" cannot be spared: of the other backends 1 is seen to serve, and 2 must (reroute.survivors)"
    );
    world.drains.call_off("s0", "kim", &world.routing.weights, at(world.now)).expect("it was being drained");
    world.tick(&[IDLE, None, IDLE]);
    world.facts = snapshot(at(world.now), &[IDLE, None, IDLE]);
    assert!(matches!(world.order("s2", 300, 0), Err(Refusal::Needed { .. })), "one of the others is not seen");
    let hot = Some((90.0, 90.0));
    world.facts = snapshot(at(world.now), &[IDLE, hot, hot]);
    let cause = Cause::Overload { full: 2, of: 2 };
    assert_eq!(world.order("s0", 300, 0), Err(Refusal::Needed { backend: "s0".to_owned(), cause }));
    assert_eq!(world.said(), ["started", "called_off"], "what was refused changed nothing");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let mut world = World::of(2);
    let before = world.drains.clone();
    assert!(matches!(world.order("stranger", 300, 0), Err(Refusal::Unknown { .. })));
    assert!(matches!(world.order("s0", 0, 0), Err(Refusal::Past { .. })));
    let slow = world.order("s0", 300, 300).expect_err("never down");
    assert_eq!(slow.to_string(), "the weight would go down within 5m, and the drain is over in 5m");
    let long = world.order("s0", 8 * 24 * 3600, 0).expect_err("as good as for ever");
    assert_eq!(long.to_string(), "a drain of 8d is longer than reroute.drain.longest, 7d");
    let weights = BTreeMap::new();
    assert!(matches!(world.drains.call_off("s0", "kim", &weights, at(0)), Err(Refusal::NoDrain { .. })));
    assert_eq!(world.drains.call_off("s0", " ", &weights, at(0)), Err(Refusal::Anonymous));
    assert_eq!(world.drains, before);
}

#[test]
fn an_order_for_one_that_is_being_drained_takes_the_place_of_the_former() {
    let mut world = World::of(3);
    world.order("s0", 120, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 2), [10, 0]);
    world.order("s0", 600, 60).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 30), [0; 30], "what is down stays down, past the first deadline");
    assert_eq!(world.said(), ["started", "replaced"]);
}

#[test]
fn whoever_orders_the_same_again_and_again_only_moves_the_deadline() {
    let mut world = World::of(3);
    let mut course = Vec::new();
    for _ in 0..5 {
        world.order("s0", 600, 60).expect("it can be spared");
        course.extend(world.course(0, &[IDLE; 3], 1));
    }
    assert_eq!(course, [75, 50, 25, 0, 0]);
    assert_eq!(world.drains.of("s0").map(|drain| (drain.ordered_at, drain.until)), Some((at(0), at(660))));
    assert!(world.order("s0", 30, 60).is_ok(), "it is down already");
}

#[test]
fn a_descent_in_another_time_goes_on_from_where_it_is() {
    let mut world = World::of(3);
    world.order("s0", 600, 60).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 2), [75, 50]);
    world.order("s0", 600, 120).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 5), [38, 25, 13, 0, 0]);
    for within in [Duration::ZERO, Duration::MAX] {
        world.drains.of.get_mut("s0").expect("it is drained").within = within;
        assert!(world.order("s0", 600, 60).is_ok(), "whatever it was");
    }
}

#[test]
fn the_deadline_of_a_suspended_drain_is_moved_and_it_stays_suspended() {
    let mut world = World::of(2);
    world.order("s0", 3600, 0).expect("it can be spared");
    world.course(0, &[IDLE; 2], 3);
    assert_eq!(world.course(0, &[IDLE, None], 1), [100]);
    let moved = world.order("s0", 7200, 0).expect("its deadline alone changes, though it is needed");
    assert_eq!(moved.until, at(world.now + 7200));
    assert_eq!(world.course(0, &[IDLE; 2], 1), [100]);
    world.order("s0", 7200, 0).expect("again");
    assert_eq!(world.course(0, &[IDLE; 2], 18), [100; 18], "for five minutes all the same");
    assert_eq!(world.course(0, &[IDLE; 2], 2), [40, 0]);
    assert_eq!(world.said(), ["started", "suspended", "replaced", "replaced", "resumed"]);
}

#[test]
fn an_order_that_would_fill_the_others_is_refused_with_the_numbers() {
    let mut world = World::of(2);
    world.facts = snapshot(at(0), &[Some((75.0, 75.0)); 2]);
    let refused = world.order("s0", 300, 0).expect_err("150 of 100");
    assert_eq!(
        refused.to_string(),
        "\"s0\" cannot be spared: with its load the others would be 150 % full, now or within the lead, and 80 % is the most (reroute.cut_above)"
    );
    world.facts = snapshot(at(0), &[Some((40.0, 40.0)); 2]);
    assert!(world.order("s0", 300, 0).is_ok(), "80 of 100");
    world.facts = snapshot(at(0), &[None, Some((75.0, 75.0))]);
    world = World { drains: World::of(2).drains, ..world };
    assert!(world.order("s0", 300, 0).is_ok(), "one that is gone carries nothing");
}

#[test]
fn one_of_which_nothing_is_known_is_called_back_too_after_the_known() {
    let mut world = World::of(3);
    world.order("s0", 3600, 0).expect("it can be spared");
    world.course(0, &[IDLE; 3], 4);
    assert_eq!(world.course(0, &[None, None, IDLE], 1), [0], "one serves");
    let hot = Some((95.0, 95.0));
    assert_eq!(world.course(0, &[None, hot, hot], 1), [100], "all help");
    assert_eq!(world.said(), ["started", "suspended"]);

    let mut world = World::of(4);
    for backend in ["s0", "s1"] {
        world.order(backend, 3600, 0).expect("it can be spared");
        world.course(0, &[IDLE; 4], 2);
    }
    let weights = world.tick(&[IDLE, None, None, None]);
    assert_eq!((weights[0].weight, weights[1].weight), (1.0, 0.0), "who is known is enough");
}

#[test]
fn a_clock_that_is_set_back_holds_up_neither_the_descent_nor_the_resumption() {
    let mut world = World::of(2);
    world.order("s0", 7200, 60).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 2], 1), [75]);
    world.now -= 4000;
    world.course(0, &[IDLE; 2], 5);
    assert_eq!(world.course(0, &[IDLE; 2], 1), [0]);
    assert_eq!(world.course(0, &[IDLE, None], 1), [100]);
    world.now -= 4000;
    world.course(0, &[IDLE; 2], 25);
    assert_eq!(world.course(0, &[IDLE; 2], 1), [0]);
}

#[test]
fn after_a_restart_not_all_come_into_sight_at_once() {
    let mut world = World::of(3);
    world.order("s0", 3600, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 4), [10, 0, 0, 0]);
    let kept = serde_json::to_string(&world.drains).expect("json");
    world.drains = serde_json::from_str(&kept).expect("ours");
    assert_eq!(world.course(0, &[IDLE, None, None], 4), [0; 4]);
    assert_eq!(world.course(0, &[IDLE, None, None], 1), [100]);
}

#[test]
fn a_drain_is_suspended_when_others_fail_and_goes_on_when_it_may() {
    let mut world = World::of(2);
    world.order("s0", 3600, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 2], 2), [40, 0]);
    let weights = world.tick(&[IDLE, None]);
    assert_eq!((weights[0].weight, weights[0].grounds), (1.0, Grounds::DrainSuspended), "at once");
    assert_eq!(world.course(0, &[IDLE; 2], 19), [100; 19], "for five minutes at least");
    assert_eq!(world.course(0, &[IDLE; 2], 2), [40, 0]);
    assert_eq!(world.said(), ["started", "suspended", "resumed"]);
    let turn = world.drains.turns().nth(1).expect("it was suspended");
    assert!(turn.to_string().contains("0 are seen to serve, and 1 must"), "{turn}");
}

#[test]
fn when_nothing_is_known_of_anybody_it_is_our_sight_that_failed_and_drains_hold() {
    let mut world = World::of(3);
    world.order("s0", 3600, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 3], 2), [10, 0]);
    assert_eq!(world.course(0, &[None; 3], 20), [0; 20]);
    assert_eq!(world.course(0, &[IDLE, None, None], 3), [0; 3], "not all come back into sight at once");
    assert_eq!(world.said(), ["started"]);
    assert_eq!(world.course(0, &[IDLE, None, None], 1), [100], "but these do not come back");
}

#[test]
fn an_overload_of_the_rest_calls_back_who_is_drained_until_the_rest_could_carry_all() {
    let mut world = World::of(3);
    world.order("s0", 7200, 0).expect("it can be spared");
    world.course(0, &[IDLE; 3], 2);
    let hot = Some((95.0, 95.0));
    assert_eq!(world.course(0, &[Some((0.0, 0.0)), hot, hot], 1), [100]);
    let shared = Some((63.0, 63.0));
    assert_eq!(world.course(0, &[shared; 3], 40), [100; 40], "189 of 200 would be too much for the two others");
    assert_eq!(world.course(0, &[IDLE; 3], 2), [10, 0]);
    assert_eq!(world.said(), ["started", "suspended", "resumed"]);
}

#[test]
fn one_that_comes_back_is_held_where_it_would_be_full() {
    let mut world = World::of(4);
    world.order("s0", 60, 0).expect("it can be spared");
    assert_eq!(world.course(0, &[IDLE; 4], 3), [0; 3]);
    let loads = [Some((10.0, 160.0)), IDLE, IDLE, IDLE];
    assert_eq!(world.course(0, &loads, 7), [10, 20, 30, 40, 50, 50, 50]);
}

#[test]
fn a_backend_that_is_no_longer_configured_is_not_drained_any_more() {
    let mut world = World::of(3);
    world.order("s2", 3600, 0).expect("it can be spared");
    world.config = config(2);
    world.tick(&[IDLE; 2]);
    assert_eq!(world.said(), ["started", "gone"]);
}

#[test]
fn what_is_kept_is_read_again_as_it_was() {
    let mut world = World::of(2);
    world.order("s0", 3600, 60).expect("it can be spared");
    world.tick(&[IDLE, None]);
    let text = serde_json::to_string(&world.drains).expect("json");
    let read: Drains = serde_json::from_str(&text).expect("ours");
    assert_eq!((&read.of, &read.turns, read.turned), (&world.drains.of, &world.drains.turns, world.drains.turned));
    let old: Routing = serde_json::from_str(r#"{"weights":{"s0":0.5},"known_at":{},"stepped_at":null}"#).expect("kept");
    assert_eq!(old.weight("s0"), 0.5, "routing of an earlier version is read");
}

#[test]
fn memory_of_turns_is_bounded() {
    let mut world = World::of(2);
    for _ in 0..MOST_TURNS {
        world.order("s0", 60, 0).expect("it can be spared");
        world.drains.call_off("s0", "kim", &world.routing.weights, at(0)).expect("it was being drained");
    }
    assert_eq!(world.drains.turns().count(), MOST_TURNS);
    assert_eq!(world.drains.turns().next().map(|turn| turn.id.clone()), Some(format!("drain-{}", 2 * MOST_TURNS)));
}

/// What may happen between two rounds.
#[derive(Clone, Debug)]
enum Deed {
    Drain(usize, u64, u64),
    CallOff(usize),
    Jump(i64),
    Nothing,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => (0..4usize, 1..2000u64, 0..600u64).prop_map(|(i, lasts, within)| Deed::Drain(i, lasts, within)),
        1 => (0..4usize).prop_map(Deed::CallOff),
        1 => (-4000..4000i64).prop_map(Deed::Jump),
        6 => Just(Deed::Nothing),
    ]
}

fn loads() -> impl Strategy<Value = Vec<Option<(f64, f64)>>> {
    prop::collection::vec(prop::option::weighted(0.9, (0.0..120.0f64, 0.0..120.0f64)), 4)
}

proptest! {
    #[test]
    fn enough_serve_and_caps_hold_whatever_is_ordered_and_whatever_fails(
        survivors in 0..4usize,
        story in prop::collection::vec((deed(), loads()), 1..80),
    ) {
        let mut world = World::of(4);
        world.config.survivors = survivors;
        let mut blind = Some(-60);
        for (deed, loads) in story {
            match deed {
                Deed::Drain(i, lasts, within) => drop(world.order(&format!("s{i}"), lasts, within)),
                Deed::CallOff(i) => {
                    let now = at(world.now);
                    drop(world.drains.call_off(&format!("s{i}"), "kim", &world.routing.weights, now));
                }
                Deed::Jump(by) => world.now += by,
                Deed::Nothing => {}
            }
            let before = world.routing.clone();
            let weights = world.tick(&loads);
            let seen = |w: &&Weight| loads[w.backend[1..].parse::<usize>().expect("an index")].is_some();
            let serving = weights.iter().filter(seen).filter(|w| w.weight > 0.0).count();
            blind = if weights.iter().any(|w| seen(&w)) { blind } else { Some(world.now) };
            let dazzled = blind.is_some_and(|at| (world.now - at).abs() < 60);
            prop_assert!(dazzled || serving >= survivors.max(1).min(weights.iter().filter(seen).count()), "{weights:?}");
            let cut: f64 = weights.iter().map(|w| (before.weight(&w.backend) - w.weight).max(0.0)).sum();
            prop_assert!(cut <= world.config.cut_at_once.value() * 4.0 + 1e-9, "cut {cut} at once");
            for weight in &weights {
                prop_assert!((0.0..=1.0).contains(&weight.weight), "{weight:?}");
                let drained = weight.grounds == Grounds::Draining;
                prop_assert!(drained || weight.weight >= world.config.least_weight.value() - 1e-9, "{weight:?}");
                if let Some(drain) = world.drains.of(&weight.backend) {
                    prop_assert!(at(world.now) < drain.until, "a drain ends at its deadline");
                }
            }
            let again = weigh(&world.facts, &before, &world.drains, &world.config, at(world.now)).0;
            prop_assert_eq!(again, weights, "the same facts give the same weights");
        }
    }

    #[test]
    fn a_drain_that_is_called_off_leaves_everything_where_it_was(
        rounds in 0..30usize, within in 0..300u64, load in 0.0..59.0f64, again in prop::bool::ANY,
    ) {
        let mut world = World::of(4);
        let loads = [Some((load, load)); 4];
        world.tick(&loads);
        let (weights, held) = (world.routing.weights.clone(), world.routing.drained.clone());
        prop_assert!(world.order("s2", 3000, within).is_ok());
        world.course(2, &loads, rounds);
        if again {
            prop_assert!(world.order("s2", 2000, within).is_ok());
            world.course(2, &loads, rounds);
        }
        prop_assert!(world.drains.call_off("s2", "kim", &world.routing.weights, at(world.now)).is_ok());
        world.course(2, &loads, 11);
        prop_assert_eq!((&world.routing.weights, &world.routing.drained), (&weights, &held));
        prop_assert_eq!(world.drains.of("s2"), None);
    }
}
