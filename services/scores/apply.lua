-- Puts players where they stand on one board and period, if what is known of them is older.
--
-- KEYS  see keyspace.py
-- ARGV  what the clock is ahead of Redis' (ms), when the keys expire (Unix ms; 0: never), whether
--       equal scores share ranks without a gap (`dense`), whether ranks are asked for (`ranked`),
--       whether an equal version replaces too (`force`), where to tell that the board changed and
--       by which name, then for each player: id (16 bytes), version (8, big-endian), place among
--       equals (8; empty: not on the board), when it was reached (8), score
--
-- A member is the place among equals and the player's id. The hash keeps version, place and time
-- for each player. Scores pass as they came: as Lua's text they would lose digits.
-- Answers old and new rank for each player (0-based, descending; -1: none); nothing when no ranks
-- are asked for, or the board is not complete.

local board, members, meta, ready, scores, cache = unpack(KEYS)
local offset, expires = tonumber(ARGV[1]), tonumber(ARGV[2])
local dense, ranked, force = ARGV[3] == 'dense', ARGV[4] == 'ranked', ARGV[5] == 'force'
local FIRST, FIELDS = 8, 5
local answer, wrote, moved = {}, false, false

ranked = ranked and redis.call('EXISTS', ready) == 1

-- Not compared as text: that follows the locale of the server.
local function number(bytes)
  local high, low = struct.unpack('>I4I4', bytes)
  return high * 2 ^ 32 + low
end

local function rank(member)
  return ranked and member and redis.call('ZREVRANK', board, member) or -1
end

local function remove(member)
  local score = dense and redis.call('ZSCORE', board, member)
  redis.call('ZREM', board, member)
  if score and redis.call('ZCOUNT', board, score, score) == 0 then
    redis.call('ZREMRANGEBYSCORE', scores, score, score)
  end
end

for i = FIRST, #ARGV, FIELDS do
  local user, version, place, at, score = unpack(ARGV, i, i + FIELDS - 1)
  local kept = redis.call('HGET', members, user)
  local was = kept and #kept > 8 and string.sub(kept, 9, 16) .. user or nil
  local is = place ~= '' and place .. user or nil
  local old = rank(was)
  local new = old
  local newer = kept and number(version) - number(kept)
  if not kept or newer > 0 or (force and newer == 0) then
    wrote = true
    redis.call('HSET', members, user, is and version .. place .. at or version)
    local stands = is and redis.call('ZSCORE', board, is)
    if was ~= is or (is and not (stands and tonumber(stands) == tonumber(score))) then
      moved = true
      if was then
        remove(was)
      end
      if is then
        redis.call('ZADD', board, score, is)
        if dense then
          redis.call('ZADD', scores, score, score)
        end
      end
      new = rank(is)
    end
  end
  if ranked then
    answer[#answer + 1] = old
    answer[#answer + 1] = new
  end
end

if moved then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset
  local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
  redis.call('HSET', meta, 'version', string.format('%.0f', version), 'at', string.format('%.0f', now))
  -- Whoever keeps the first entries in memory read them through this key.
  if redis.call('DEL', cache) == 1 then
    redis.call('PUBLISH', ARGV[6], ARGV[7])
  end
end
if wrote and expires > 0 then
  for i = 1, 5 do
    redis.call('PEXPIREAT', KEYS[i], expires)
  end
end
return answer
