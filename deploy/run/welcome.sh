# Message printed when the cluster is up. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh

welcome() {
    local i url=http://localhost:$port redis='the Redis of REDIS_URL' shown=${data#"$PWD"/}
    if [ -n "$redis_port" ]; then redis="redis://127.0.0.1:$redis_port, kept in $shown/redis"; fi
    {
        echo
        echo "Portcullis is up."
        echo
        echo "  balancer   $url"
        echo "  docs       $url/docs"
        for ((i = 1; i <= replicas; i++)); do
            printf '  replica %-2d http://localhost:%d   management http://localhost:%d (/livez /readyz /metrics)\n' \
                "$i" "$((port + i))" "$((port + 1000 + i))"
        done
        echo "  Redis      $redis"
        printf '  logs       tail -F %q/logs/*.log\n' "$shown"
        cat <<TRY

Try it in another terminal:

  curl $url/register -H 'content-type: application/json' -d '{"username": "alice", "password": "teal-otter-harbour-42"}'
  token=\$(curl -s $url/login -H 'content-type: application/json' -d '{"username": "alice", "password": "teal-otter-harbour-42"}' | sed 's/.*"token":"\([^"]*\).*/\1/')
  curl $url/dashboard -H "authorization: Bearer \$token"
  curl -i -X POST $url/logout -H "authorization: Bearer \$token"

Guides, operation and reference are in docs/: begin with docs/README.md.

Ctrl-C stops all of it. Accounts and logs are kept in $shown.
TRY
    } || true
}
