-- Applies awards to one board and period: each player's newest total, if it is newer.
--
-- KEYS  the board (sorted set), its members (hash), its meta (hash)
-- ARGV  when the board expires (Unix ms; 0: never), whether ranks are asked for (0 or 1),
--       the present Unix ms, then for each award: the player (16 bytes), the player's version
--       (8 bytes, big-endian), the place among equals (8 bytes; empty: not on the board),
--       when it was reached (8 bytes), the total
--
-- A member is the place among equals and the player's id, so that equal totals rank by who
-- reached them first. The hash keeps version, place and time for each player.
-- Answers old and new rank for each award (0-based; -1: none).

local board, members, meta = KEYS[1], KEYS[2], KEYS[3]
local expires, ranked = tonumber(ARGV[1]), ARGV[2] == '1'
local answer, moved = {}, false

for i = 4, #ARGV, 5 do
  local user, version, place, at, total = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local kept = redis.call('HGET', members, user)
  local old, new = -1, -1
  local member
  if kept and #kept > 8 then
    member = string.sub(kept, 9, 16) .. user
    if ranked then
      old = redis.call('ZREVRANK', board, member) or -1
    end
  end
  if kept and string.sub(kept, 1, 8) >= version then
    new = old
  else
    moved = true
    if member then
      redis.call('ZREM', board, member)
    end
    if place == '' then
      redis.call('HSET', members, user, version)
    else
      redis.call('ZADD', board, total, place .. user)
      redis.call('HSET', members, user, version .. place .. at)
      if ranked then
        new = redis.call('ZREVRANK', board, place .. user)
      end
    end
  end
  if ranked then
    answer[#answer + 1] = old
    answer[#answer + 1] = new
  end
end

if moved then
  redis.call('HINCRBY', meta, 'version', 1)
  redis.call('HSET', meta, 'at', ARGV[3])
  if expires > 0 then
    redis.call('PEXPIREAT', board, expires)
    redis.call('PEXPIREAT', members, expires)
    redis.call('PEXPIREAT', meta, expires)
  end
end
return answer
