-- The first entries of one board and period.
--
-- KEYS  the board (sorted set), its members (hash), its meta (hash)
-- ARGV  how many
-- Answers the board's version, when it changed (Unix ms), how many players are on it, then for
-- each entry: the player (16 bytes), the total, when it was reached (8 bytes).

local meta = redis.call('HMGET', KEYS[3], 'version', 'at')
local answer = {meta[1] or '0', meta[2] or '0', redis.call('ZCARD', KEYS[1])}
local entries = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #entries, 2 do
  local user = string.sub(entries[i], 9)
  answer[#answer + 1] = user
  answer[#answer + 1] = entries[i + 1]
  answer[#answer + 1] = string.sub(redis.call('HGET', KEYS[2], user), 17)
end
return answer
