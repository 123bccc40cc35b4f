// Package etcdnode is the embedded etcd member: what the node knows about it
// outside etcd (node.state), the child process it runs in, and the changes of
// its membership.
//
// The member runs as a child of the agent, from the same binary. etcd may end
// its process at will, and its clean stop waits seconds for open watches;
// neither may touch the speaker. The child is crash-only: it may die at any
// moment, is started again, and everything acknowledged is on disk.
package etcdnode
