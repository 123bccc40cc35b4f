// Package torture kills a real pair of stores under load, again and again, and
// holds what is left against what was promised: no acknowledged event is lost,
// none stands twice or in another place, both nodes hold the same whole chain,
// and the history of every stream could have happened one step at a time.
//
// It plays the agents' part: it knows which node it killed, so it needs no
// authority to let the other one take over. Everything else, from the tail that
// is kept to the learner that is promoted, is done by the functions that the
// agent calls.
package torture
