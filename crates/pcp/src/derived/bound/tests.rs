use super::*;
use crate::derived::parser::parse;
use crate::units::{ScaledUnits, TIME_MSEC};
use crate::value::InstanceValue;

const BIN: Pmid = Pmid::new(29, 0, 6);
const TEN: Pmid = Pmid::new(29, 0, 11);

fn metric(pmid: Pmid, ty: Type, indom: InDom, sem: Semantics, units: Units) -> Desc {
    Desc {
        pmid,
        ..plain(ty, sem, units, indom)
    }
}

fn operands() -> Operands {
    let units = |text: &str| text.parse::<ScaledUnits>().expect(text).units;
    let indom = InDom::new(29, 2);
    let instant = Semantics::Instant;
    let nic = InDom::new(60, 3);
    let time = Units::new(0, 1, 0, 0, TIME_MSEC, 0);
    HashMap::from([
        (
            "bin".into(),
            metric(BIN, Type::I32, indom, instant, Units::NONE),
        ),
        (
            "ten".into(),
            metric(TEN, Type::U32, InDom::NULL, instant, Units::NONE),
        ),
        (
            "ms".into(),
            metric(Pmid(1), Type::Double, InDom::NULL, Semantics::Counter, time),
        ),
        (
            "in.bytes".into(),
            metric(Pmid(2), Type::U64, nic, Semantics::Counter, units("byte")),
        ),
        (
            "speed".into(),
            metric(
                Pmid(3),
                Type::Float,
                nic,
                Semantics::Discrete,
                units("Mbyte/sec"),
            ),
        ),
        (
            "text".into(),
            metric(Pmid(4), Type::String, InDom::NULL, instant, Units::NONE),
        ),
    ])
}

fn bound(text: &str) -> Result<Bound, BindError> {
    Bound::new(&parse(text).expect(text), &operands())
}

fn value(text: &str, bin: &[(i32, i32)]) -> Result<Vec<(i32, Atom)>, ErrorCode> {
    let instance = |(inst, value): &(i32, i32)| InstanceValue {
        inst: *inst,
        value: Atom::I32(*value).to_value(),
    };
    let ten = InstanceValue {
        inst: INST_NULL,
        value: Atom::U32(10).to_value(),
    };
    let sets = HashMap::from([
        (BIN, ValueSet::new(BIN, bin.iter().map(instance).collect())),
        (TEN, ValueSet::new(TEN, vec![ten])),
    ]);
    let mut name = |_, inst| Some(Text::from(format!("bin-{inst}")));
    let mut sample = Sample {
        sets: &sets,
        time: Timestamp::ZERO,
        name: &mut name,
    };
    bound(text).expect(text).values(&mut sample)
}

#[test]
fn metadata_of_the_manual_pages_example() {
    let x = bound("speed - delta(in.bytes) / delta(ms)")
        .expect("bound")
        .desc;
    assert_eq!(x.ty, Type::Double);
    assert_eq!(x.units.to_string(), "Mbyte / sec");
    assert_eq!(x.indom, InDom::new(60, 3));
    let rate = bound("rate(ms)").expect("bound").desc;
    assert_eq!(
        (rate.ty, rate.units.to_string()),
        (Type::Double, String::new())
    );
}

#[test]
fn what_makes_no_sense_says_why() {
    for (text, why) in [
        (
            "text * 128",
            "text * 128: Non-arithmetic type for left operand",
        ),
        (
            "1 + text",
            "1 + text: Non-arithmetic type for right operand",
        ),
        (
            "max(text)",
            "MAX(text): Non-arithmetic operand for function",
        ),
        (
            "in.bytes * in.bytes",
            "in.bytes * in.bytes: Illegal operator for counters",
        ),
        (
            "ms + ten",
            "ms + ten: Illegal operator for counter and non-counter",
        ),
        (
            "100 / ms",
            "100 / ms: Illegal operator for non-counter and counter",
        ),
        ("speed + ten", "speed + ten: Dimensions are not the same"),
        (
            "bin + rate(in.bytes) * 0",
            "bin + <expr>: Dimensions are not the same",
        ),
        (
            "text ? 1 : 2",
            "text ? 1 : 2: Non-arithmetic operand for ternary guard",
        ),
        (
            "ten > 1 ? bin : ten",
            "bin : ten: Different types for ternary operands",
        ),
    ] {
        let error = bound(text).expect_err(text);
        assert_eq!(error, BindError::Semantic(why.to_owned()));
    }
    assert_eq!(
        bound("nothing + 1").expect_err("unknown"),
        BindError::Operand("nothing".to_owned())
    );
}

#[test]
fn values_by_instance() {
    let bin = [(100, 100), (300, 300)];
    let u32s = |values: &[(i32, u32)]| {
        let atoms = values.iter().map(|(i, v)| (*i, Atom::U32(*v)));
        Ok(atoms.collect::<Vec<_>>())
    };
    assert_eq!(value("bin * 2", &bin), u32s(&[(100, 200), (300, 600)]));
    assert_eq!(value("bin > 100", &bin), u32s(&[(100, 0), (300, 1)]));
    assert_eq!(value("count(bin)", &bin), u32s(&[(INST_NULL, 2)]));
    assert_eq!(value("ten - 20", &bin), u32s(&[(INST_NULL, 4_294_967_286)]));
    let real = |inst, v| Ok(vec![(inst, Atom::Double(v))]);
    assert_eq!(value("bin[bin-300] / 2", &bin), real(300, 150.0));
    assert_eq!(value("scalar(bin) / ten", &bin), real(INST_NULL, 10.0));
    let whole = |inst, v| Ok(vec![(inst, Atom::I32(v))]);
    assert_eq!(value("matchinst(!/^bin-1/, bin)", &bin), whole(300, 300));
    assert_eq!(value("max(bin)", &bin), whole(INST_NULL, 300));
    assert_eq!(value("-ten", &bin), whole(INST_NULL, -10));
    assert_eq!(value("sum(bin)", &[]), Ok(Vec::new()));
    assert_eq!(value("bin > 150 ? bin : bin", &bin).map(|v| v.len()), Ok(2));
    assert_eq!(value("speed > 0", &bin), Err(ErrorCode::VALUE));
}
