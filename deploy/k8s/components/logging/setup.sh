#!/bin/sh
# Puts lifecycles, templates and Kibana's data views; the same again where they are there.
set -eu
key="Authorization: ApiKey $(cat /etc/elasticsearch/api_key)"
# Pairs of lines: a path, and what is put there.
while read -r path && read -r body; do
  curl -fsS --retry 10 --retry-connrefused -X PUT -H "$key" -H 'Content-Type: application/json' \
    --data "$body" "$ELASTICSEARCH_URL$path"
done < /etc/log-setup/elasticsearch.ndjson
curl -fsS --retry 10 --retry-connrefused -H "$key" -H 'kbn-xsrf: true' \
  --form file=@/etc/log-setup/kibana.ndjson "$KIBANA_URL/api/saved_objects/_import?overwrite=true"
