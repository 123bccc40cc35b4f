package pulse

import "time"

// ask asks one target who is there, if it is time.
func (t *Taker) ask(now time.Duration, i int) {
	x := &t.targets[i]
	if x.closed || x.dark || now < x.nextAsk {
		return
	}
	x.asked++
	x.unanswered++
	x.rest = now + t.pace(x)
	x.nextAsk = x.rest
	if x.answered || x.unanswered == x.limit() { // how soon an answer is missed
		x.nextAsk = now + AskEvery
	}
	t.do(i, Ask)
}

// pace is the gap between two questions while their answer is no news.
func (t *Taker) pace(x *target) time.Duration {
	switch {
	case x.asked >= AskIdleAfter && !t.vigil(x):
		return AskIdle
	case x.asked >= x.limit():
		return AskSlow
	}
	return AskEvery
}

// vigil: the kernel is all that is left of a silent node. If that goes too, its
// next hop has to be taken at once, however long it has answered.
func (t *Taker) vigil(x *target) bool { return t.quiet && x.answered && x.class != Gateway }

// expire notices who does not answer any more, and what that adds up to.
func (t *Taker) expire(now time.Duration) {
	var kernels, gateways, kernelsAbsent, gatewaysAbsent int
	for i := range t.targets {
		x := &t.targets[i]
		if x.closed || x.dark && x.class != Gateway {
			continue
		}
		gone := x.unanswered >= x.limit() && now >= x.nextAsk
		if gone {
			x.answered = false
		}
		// Asked often enough, and nobody there.
		away := x.dark || !x.answered && x.unanswered >= x.limit() && (gone || x.unanswered > x.limit())
		if x.class == Gateway {
			gateways++
			gatewaysAbsent += count(away)
		} else {
			kernels++
			kernelsAbsent += count(away)
		}
	}
	if t.quiet && kernels > 0 && kernelsAbsent == kernels && t.kernel != absent {
		t.kernel = absent
		t.emit(KernelDead)
	}
	if gateways > 0 && gatewaysAbsent == gateways && t.gateway != absent {
		t.gateway = absent
		t.emit(GatewayDead)
	}
}
