//! The operations of a DWARF expression (DWARF 5, section 2.5), one after another, from damaged files, too.

use gimli::{Encoding, Error, Expression, LittleEndian, Operation, OperationIter, Reader};

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

/// gimli's iterator, less what it computes without a look at the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operations<'a> {
    expression: Expression<Slice<'a>>,
    operations: OperationIter<Slice<'a>>,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(expression: Expression<Slice<'a>>, encoding: Encoding) -> Self {
        Operations {
            expression,
            operations: expression.operations(encoding),
        }
    }

    /// The next operation; `None` at the end.
    ///
    /// # Errors
    /// When the bytes are no operation, or one whose operand is larger than anything that could be described.
    pub(crate) fn next(&mut self) -> Result<Option<Operation<Slice<'a>>>, Error> {
        let mut rest = self.expression.0.range_from(self.position()..);
        // A piece is counted in bits from here on.
        if rest.read_u8() == Ok(gimli::DW_OP_piece.0) && rest.read_uleb128()? > u64::MAX / 8 {
            return Err(Error::BadUnsignedLeb128);
        }
        self.operations.next()
    }

    /// Where the next operation stands in the expression, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.operations.offset_from(&self.expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODING: Encoding = Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 5,
    };

    fn of(bytes: &[u8]) -> Operations<'_> {
        Operations::new(Expression(Slice::new(bytes, LittleEndian)), ENCODING)
    }

    #[test]
    fn pieces_have_their_sizes_in_bits() {
        let mut operations = of(&[gimli::DW_OP_reg3.0, gimli::DW_OP_piece.0, 4]);
        assert!(matches!(
            operations.next(),
            Ok(Some(Operation::Register { .. }))
        ));
        assert_eq!(operations.position(), 1);
        assert_eq!(
            operations.next(),
            Ok(Some(Operation::Piece {
                size_in_bits: 32,
                bit_offset: None
            }))
        );
        assert_eq!(operations.next(), Ok(None));
    }

    #[test]
    fn a_piece_of_more_bits_than_can_be_counted_is_an_error() {
        let mut bytes = vec![gimli::DW_OP_piece.0];
        bytes.extend([0xff; 9]);
        bytes.push(1);
        assert!(of(&bytes).next().is_err());
    }
}
