package torture

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// judgeBound bounds the search for an order of one stream's operations. What
// could not be decided in it counts as a failure.
const judgeBound = 30 * time.Second

// model is one stream: a revision that an append raises by one if it expected
// it, and that nothing else changes.
func model(revision uint64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return revision },
		Step: func(state, input, _ any) (bool, any) {
			rev, o := state.(uint64), input.(op)
			switch o.outcome {
			case appended:
				return o.expected == rev && o.rev == rev+1, rev + 1
			case conflict:
				return o.expected != rev, rev
			default:
				return o.rev == rev, rev
			}
		},
		DescribeOperation: func(input, _ any) string {
			o := input.(op)
			return fmt.Sprintf("%s %s %s expected %d revision %d", o.outcome, o.stream, o.key, o.expected, o.rev)
		},
	}
}

// judge tells whether the operations on each stream can be put in an order that
// the model allows, each between its call and its return.
func judge(ops []op, revs map[string]uint64) error {
	byStream := map[string][]porcupine.Operation{}
	for _, o := range ops {
		byStream[o.stream] = append(byStream[o.stream], porcupine.Operation{
			ClientId: o.writer, Input: o, Call: int64(o.call), Return: int64(o.ret),
		})
	}
	for stream, history := range byStream {
		if r := porcupine.CheckOperationsTimeout(model(revs[stream]), history, judgeBound); r != porcupine.Ok {
			return fmt.Errorf("the history of stream %s is not linearizable (%s): %d operations", stream, r, len(history))
		}
	}
	return nil
}
