package torture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// failover lets one node take over, go on alone, and be joined by the other.
func (p *pair) failover(ctx context.Context, survivor, dead int, plan plan) error {
	if err := p.takeover(ctx, survivor, plan); err != nil {
		return fmt.Errorf("takeover: %w", err)
	}
	if err := hold(ctx, plan.sole); err != nil {
		return err
	}
	if err := p.comeBack(ctx, survivor, dead, plan); err != nil {
		return fmt.Errorf("return: %w", err)
	}
	return nil
}

// takeover makes the survivor's store one of its own. Each crash of the plan
// breaks it off somewhere, and whoever comes next begins at the first step.
func (p *pair) takeover(ctx context.Context, survivor int, plan plan) error {
	p.result.Takeovers++
	n, next := p.nodes[survivor], p.epoch+1
	for _, c := range append(plan.crashes, crash{}) {
		began := time.Now()
		done, err := p.step(ctx, n, next, c)
		if err != nil {
			return err
		}
		if !done {
			p.result.Crashes++
			continue
		}
		if len(plan.crashes) == 0 {
			p.result.Takeover = append(p.result.Takeover, float64(time.Since(began).Microseconds())/1000)
		}
	}
	p.epoch = next
	p.show()
	return nil
}

// step goes through a takeover until c breaks it off. A store that runs goes on
// alone as it is; one that does not, or can't, is started anew.
func (p *pair) step(ctx context.Context, n *node, epoch eventlog.Epoch, c crash) (done bool, err error) {
	if c.at == atAlone {
		return false, p.breakOff(ctx, n, epoch, c)
	}
	alone := errors.New("it is to be started anew")
	if !p.o.NoKeepTail && c.at != atStart {
		alone = n.sup.GoAlone(ctx, epoch)
	}
	if alone == nil {
		p.result.Running++
		n.cfg.Force = epoch
	} else {
		p.o.Say("restarting %s: %v", n.name, alone)
		if done, err := p.restart(ctx, n, epoch, c); !done {
			return false, err
		}
	}
	if c.at == atReady {
		return false, n.kill(ctx)
	}
	if err := n.openLogs(); err != nil {
		return false, err
	}
	err = n.startEpoch(ctx, epoch, string(quorum.Sole), n.name)
	if c.at == atEpoch && err == nil {
		return false, n.kill(ctx)
	}
	return true, err
}

// breakOff kills the store on its way to going on alone.
func (p *pair) breakOff(ctx context.Context, n *node, epoch eventlog.Epoch, c crash) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = n.sup.GoAlone(ctx, epoch) }) // it may come to an end, or not
	if err := hold(ctx, c.after/aloneShare); err != nil {
		return err
	}
	return n.kill(ctx)
}

// restart kills the store, and starts it with everything that is on its disk.
// With crash c it may not come to an end.
func (p *pair) restart(ctx context.Context, n *node, epoch eventlog.Epoch, c crash) (done bool, err error) {
	if err := n.kill(ctx); err != nil {
		return false, err
	}
	p.show() // nobody writes now
	if !p.o.NoKeepTail {
		if _, err := etcdnode.KeepTail(n.cfg.Dir); err != nil {
			return false, err
		}
	}
	n.cfg.Force = epoch
	if c.at == atStart {
		if err := n.sup.Restart(ctx, n.cfg); err != nil {
			return false, err
		}
		if err := hold(ctx, c.after); err != nil {
			return false, err
		}
		return false, n.kill(ctx)
	}
	return true, n.run(ctx)
}
