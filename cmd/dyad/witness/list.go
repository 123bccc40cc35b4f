package witness

import (
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"dyad/cluster/witness/server"
	"dyad/cmd/dyad/cli"
)

func list(env *cli.Env) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "list [CLUSTER]",
		Short: "The clusters that a witness holds, on the machine it runs on",
		Long: `list reads the data directory of a witness, whether one runs there or not, and shows
what stands for each cluster, or for one.`,
		Example: "  dyad witness list\n  dyad witness list --data ./witness -o json",
		Args:    cli.Args(0, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			held, err := server.Load(data)
			if err != nil {
				return err
			}
			records := []server.Record{}
			for _, id := range slices.Sorted(maps.Keys(held)) {
				if len(args) == 0 || args[0] == id {
					records = append(records, held[id])
				}
			}
			if len(args) == 1 && len(records) == 0 {
				return cli.Exit(cli.ExitRefused, "cluster "+strconv.Quote(args[0]), "this witness does not hold it", "dyad witness list")
			}
			return recordTable(env).Print(env, records)
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultData, "`DIR` of the witness")
	return cmd
}

func recordTable(env *cli.Env) cli.List[server.Record] {
	return cli.List[server.Record]{
		Name:  func(r server.Record) string { return "cluster/" + r.Claim.Cluster },
		Empty: "no clusters; on a node: dyad witness add URL",
		Columns: []cli.Column[server.Record]{
			{Head: "CLUSTER", Value: func(r server.Record) string { return r.Claim.Cluster }},
			{Head: "STANDS", Value: func(r server.Record) string { return r.Claim.String() }},
			{Head: "EVENT", Right: true, Value: func(r server.Record) string { return strconv.FormatUint(uint64(r.Claim.Seq), 10) }},
			{Head: "CHANGED", Value: func(r server.Record) string { return env.Time(r.Changed) }},
			{Head: "BY", Value: func(r server.Record) string { return r.By }},
			{Head: "CREATED", Wide: true, Value: func(r server.Record) string { return env.Time(r.Created) }},
			{Head: "CA", Wide: true, Value: func(r server.Record) string { return r.CA }},
		},
	}
}
