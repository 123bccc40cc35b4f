package torture

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// pair is the two nodes under torture.
type pair struct {
	o      Options
	nodes  [2]*node
	epoch  eventlog.Epoch
	view   atomic.Pointer[view]
	ledger *ledger
	result *Result
}

// form makes a pair out of two empty directories.
func (p *pair) form(ctx context.Context, dir string) (err error) {
	for i, name := range []string{"a", "b"} {
		if p.nodes[i], err = newNode(ctx, p.o, name, dir); err != nil {
			return err
		}
	}
	p.view.Store(&view{changed: make(chan struct{})})
	if err := p.nodes[0].run(ctx); err != nil {
		return err
	}
	if err := p.nodes[0].openLogs(); err != nil {
		return err
	}
	return p.join(ctx, 0, 1, plan{})
}

func (p *pair) close() {
	for _, n := range p.nodes {
		if n != nil {
			n.close()
		}
	}
}

// show lets the writers use the handles that the nodes have now, at this epoch.
func (p *pair) show() {
	v := &view{epoch: p.epoch, changed: make(chan struct{}), clients: [2]*clientv3.Client{p.nodes[0].client, p.nodes[1].client}}
	for i, n := range p.nodes {
		v.logs[i] = append([]*etcdlog.Log(nil), n.logs...)
	}
	close(p.view.Swap(v).changed)
}

// round plays one round: load, a fault, the takeover, load at the survivor, the
// return of the other node, load, and the check.
func (p *pair) round(ctx context.Context, n int, plan plan) error {
	if p.nodes[1].leads(ctx) {
		p.nodes[0], p.nodes[1] = p.nodes[1], p.nodes[0]
		p.show()
	}
	l := startLoad(ctx, &p.view, n, p.o.Writers, p.ledger.revs)
	err := errors.Join(hold(ctx, plan.before), p.play(ctx, l, plan), hold(ctx, plan.after))
	ops, lerr := l.end()
	if err = errors.Join(err, lerr); err != nil {
		return err
	}
	for _, o := range ops {
		switch o.outcome {
		case appended:
			p.result.Acked++
		case conflict:
			p.result.Conflicts++
		}
	}
	late, err := p.ledger.check(ctx, p.nodes, ops)
	p.result.Late += late
	return err
}

// hold lets the writers write for d.
func hold(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// play makes the fault and mends it. Node 0 led when the round began.
func (p *pair) play(ctx context.Context, l *load, plan plan) error {
	victim := 0
	switch plan.kind {
	case KindFollower:
		victim = 1
	case KindLeader:
		p.awaitAck(ctx, l, 0)
	case KindBoth, KindBothBack:
		p.awaitAck(ctx, l, 0)
		return p.both(ctx, plan)
	case KindBlip:
		if !plan.leader {
			victim = 1
		}
		if err := p.kill(ctx, victim); err != nil {
			return err
		}
		if err := hold(ctx, plan.gap); err != nil {
			return err
		}
		return p.back(ctx, victim)
	case KindLeave:
		if !plan.leader {
			victim = 1
		}
		return p.leave(ctx, victim, plan)
	}
	if err := p.kill(ctx, victim); err != nil {
		return err
	}
	return p.failover(ctx, 1-victim, victim, plan)
}

// awaitAck returns in the moment in which an append through a node is answered.
func (p *pair) awaitAck(ctx context.Context, l *load, node int) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Load)
	defer cancel()
	for {
		select {
		case at := <-l.acked:
			if at == node {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// kill kills a node's store now, and then tells the writers.
func (p *pair) kill(ctx context.Context, i int) error {
	n := p.nodes[i]
	if pid := n.sup.PID(); pid > 0 {
		// At once; the supervisor's way takes some microseconds longer. If it
		// is dead already that's what was wanted.
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	err := n.kill(ctx)
	p.show()
	return err
}

// both kills the leader and, a moment later, the other one.
func (p *pair) both(ctx context.Context, plan plan) error {
	if err := p.kill(ctx, 0); err != nil {
		return err
	}
	if err := hold(ctx, plan.gap); err != nil {
		return err
	}
	if err := p.kill(ctx, 1); err != nil {
		return err
	}
	if plan.kind == KindBothBack {
		return p.back(ctx, 0, 1)
	}
	survivor := 1
	if plan.first {
		survivor = 0
	}
	return p.failover(ctx, survivor, 1-survivor, plan)
}

// back starts killed nodes again as they were; the pair goes on.
func (p *pair) back(ctx context.Context, killed ...int) error {
	for _, i := range killed {
		if err := p.nodes[i].sup.Restart(ctx, p.nodes[i].cfg); err != nil {
			return err
		}
	}
	for _, i := range killed {
		if err := p.nodes[i].ready(ctx); err != nil {
			return err
		}
		if err := p.nodes[i].openLogs(); err != nil {
			return err
		}
	}
	p.show()
	return nil
}

// comeBack brings the dead node back: its old store is put aside, it joins with an
// empty one, and then, as in the agent, the old one is read for orphans.
func (p *pair) comeBack(ctx context.Context, survivor, dead int, plan plan) error {
	s, d, began := p.nodes[survivor], p.nodes[dead], time.Now()
	path, err := etcdnode.Archive(d.dir, d.cfg.Dir, p.epoch-1, began)
	if err != nil {
		return err
	}
	if err := p.join(ctx, survivor, dead, plan); err != nil {
		return err
	}
	if plan.learnerDies == 0 && plan.survivorDies == 0 {
		p.result.Rejoin = append(p.result.Rejoin, float64(time.Since(began).Microseconds())/1000)
	}
	orphans, err := etcdnode.ReadOrphans(path, etcdlog.DefaultPrefix, s.hashOf(ctx))
	if err != nil {
		return err
	}
	p.result.Orphans += len(orphans.Events)
	if orphans.Common.Seq < p.ledger.head.Seq {
		return broken("the logs part at event %d; both had %d", orphans.Common.Seq, p.ledger.head.Seq)
	}
	if _, err := etcdnode.PruneArchives(d.dir); err != nil {
		return err
	}
	_, err = os.Stat(path) // the newest stays
	return err
}

// join makes the node with an empty directory the second voter.
func (p *pair) join(ctx context.Context, survivor, joiner int, plan plan) error {
	s, j := p.nodes[survivor], p.nodes[joiner]
	id, members, err := etcdnode.Readmit(ctx, s.client, j.name, j.cfg.PeerURL)
	if err != nil {
		return err
	}
	j.cfg.Members, j.cfg.Join, j.cfg.Force = members, true, 0
	if err := j.sup.Restart(ctx, j.cfg); err != nil {
		return err
	}
	for _, death := range []struct {
		n     *node
		after time.Duration
	}{{j, plan.learnerDies}, {s, plan.survivorDies}} {
		if death.after == 0 {
			continue
		}
		if err := hold(ctx, death.after); err != nil {
			return err
		}
		p.result.Crashes++
		// With the configuration it has: a survivor that was forced once is not
		// forced again.
		if err := death.n.sup.Restart(ctx, death.n.cfg); err != nil {
			return err
		}
		etcdnode.Reconnect(death.n.client)
	}
	if err := etcdnode.PromoteWhenEqual(ctx, s.client, id, nil); err != nil {
		return err
	}
	if err := j.ready(ctx); err != nil {
		return err
	}
	if err := s.startEpoch(ctx, p.epoch+1, string(quorum.Pair), s.name, j.name); err != nil {
		return err
	}
	p.epoch++
	if err := j.openLogs(); err != nil {
		return err
	}
	p.show()
	return nil
}

// leave lets a node go as planned, and come back.
func (p *pair) leave(ctx context.Context, leaver int, plan plan) error {
	s, n := p.nodes[1-leaver], p.nodes[leaver]
	n.closeLogs()
	p.show() // its clients go to the other node
	if err := etcdnode.Leave(ctx, n.client, nil); err != nil {
		return err
	}
	if err := n.kill(ctx); err != nil {
		return err
	}
	if err := s.startEpoch(ctx, p.epoch+1, string(quorum.Solo), s.name); err != nil {
		return err
	}
	p.epoch++
	p.show()
	if err := hold(ctx, plan.sole); err != nil {
		return err
	}
	return p.comeBack(ctx, 1-leaver, leaver, plan)
}
