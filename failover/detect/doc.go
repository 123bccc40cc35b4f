// Package detect turns what the world shows into inputs of the failover
// machine: memberlist as failure detector and channel for the nodes' reports
// ([Detector]), and the local health checks of services ([Checker]).
package detect
