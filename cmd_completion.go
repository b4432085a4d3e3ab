package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// bashCompletion asks the program itself what may follow. Zsh runs it through
// bashcompinit, so the two cannot drift apart.
const bashCompletion = `_srs_proxy() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _srs_proxy srs-proxy
`

const zshCompletion = `#compdef srs-proxy
autoload -U +X compinit bashcompinit && compinit && bashcompinit
` + bashCompletion

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a shell's completion script",
		ArgsUsage: "bash|zsh|fish",
		Description: "bash: source <(srs-proxy completion bash)\n" +
			"zsh:  source <(srs-proxy completion zsh)\n" +
			"fish: srs-proxy completion fish | source",
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usageErrorf("completion takes one word; give bash, zsh or fish")
			}
			switch shell := c.Args().First(); shell {
			case "bash":
				return printf(p.term.out, "%s", bashCompletion)
			case "zsh":
				return printf(p.term.out, "%s", zshCompletion)
			case "fish":
				script, err := c.App.ToFishCompletion()
				if err != nil {
					return fmt.Errorf("completion of fish: %w", err)
				}
				return printf(p.term.out, "%s", script)
			default:
				return usageErrorf("there is no completion for %q; give bash, zsh or fish", shell)
			}
		},
	}
}
